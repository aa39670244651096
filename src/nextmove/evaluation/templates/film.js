// Steps through the frames of an episode and moves the lines of its plots to the time that is shown.
for (const figure of document.querySelectorAll("figure.filmed")) {
  const films = figure.querySelector(".films"), slider = films.querySelector("input"), play = films.querySelector("button");
  const steps = films.dataset.steps.split(",").map(Number), last = Number(films.dataset.last) || 1;
  const lines = [...figure.querySelectorAll('svg g[id*="-now"]')].map(line => {
    const axes = line.parentNode.getBBox ? line.parentNode.querySelector('g[id*="patch"] path') : null;
    return [line, axes ? axes.getBBox().width : 0];
  });
  const show = () => {
    const i = Number(slider.value), step = steps[i];
    for (const frame of films.querySelectorAll(".frame")) {
      const { columns, width, height } = frame.dataset;
      frame.style.backgroundPosition = `-${(i % columns) * width}px -${Math.floor(i / columns) * height}px`;
    }
    films.querySelector("output").value = `${(step / films.dataset.fps).toFixed(1)} s · step ${step}`;
    for (const [line, width] of lines) line.setAttribute("transform", `translate(${step / last * width} 0)`);
  };
  let timer = 0;
  const stop = () => { clearInterval(timer); timer = 0; play.textContent = "\u25b6"; };
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (Number(slider.value) >= steps.length - 1) slider.value = 0;
    play.textContent = "\u275a\u275a";
    timer = setInterval(() => {
      if (Number(slider.value) >= steps.length - 1) return stop();
      slider.value = Number(slider.value) + 1;
      show();
    }, 1000 * last / films.dataset.fps / steps.length);
  });
  slider.addEventListener("input", () => { stop(); show(); });
  show();
}
