"""What the packages share: features, contexts, known parts, chunks, draws and the protocols.

Shapes: B batch, T observation steps, H horizon, A action width, L tokens, S context length, D width.
Time runs from noise (t = 0) to data (t = 1) everywhere.
"""

from nextmove.contracts.context import Context as Context
from nextmove.contracts.context import ContextSpec as ContextSpec
from nextmove.contracts.context import Known as Known
from nextmove.contracts.draws import Rng as Rng
from nextmove.contracts.draws import Rows as Rows
from nextmove.contracts.draws import Shard as Shard
from nextmove.contracts.draws import joined as joined
from nextmove.contracts.draws import normal as normal
from nextmove.contracts.draws import seeded as seeded
from nextmove.contracts.draws import uniform as uniform
from nextmove.contracts.features import PLAN as PLAN
from nextmove.contracts.features import TASK as TASK
from nextmove.contracts.features import Batch as Batch
from nextmove.contracts.features import Feature as Feature
from nextmove.contracts.features import ObservationError as ObservationError
from nextmove.contracts.memory import KeyValue as KeyValue
from nextmove.contracts.memory import Memory as Memory
from nextmove.contracts.memory import MemorySpec as MemorySpec
from nextmove.contracts.memory import RecurrentState as RecurrentState
from nextmove.contracts.optim import Optim as Optim
from nextmove.contracts.optim import counts as counts
from nextmove.contracts.optim import total as total
from nextmove.contracts.optim import weighted_mean as weighted_mean
from nextmove.contracts.protocols import ActionCodec as ActionCodec
from nextmove.contracts.protocols import Actor as Actor
from nextmove.contracts.protocols import Chunk as Chunk
from nextmove.contracts.protocols import Codec as Codec
from nextmove.contracts.protocols import Decoder as Decoder
from nextmove.contracts.protocols import Encoder as Encoder
from nextmove.contracts.protocols import Estimator as Estimator
from nextmove.contracts.protocols import ImageCodec as ImageCodec
from nextmove.contracts.protocols import Numbers as Numbers
from nextmove.contracts.protocols import Planner as Planner
from nextmove.contracts.protocols import Reads as Reads
from nextmove.contracts.protocols import TextCodec as TextCodec
from nextmove.contracts.protocols import TokenTrunk as TokenTrunk
from nextmove.contracts.protocols import Trainable as Trainable
from nextmove.contracts.protocols import Trunk as Trunk
