// The panels

/** Replaces what is in an element; strings become text. */
const fill = (element, ...children) => element.replaceChildren(...children);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function meter(fraction, colour) {
  return make("div", {class: "meter"}, make("i", {style: `width: ${100 * fraction}%; background: var(--${colour})`}));
}

function showTotals() {
  const i = step();
  for (const [side, from, to, word] of [["agents", 0, N, "agents"], ["enemies", N, U, "enemies"]]) {
    let left = 0, points = 0, full = 0;
    for (let u = from; u < to; u++) {
      left += livesAt(u, i);
      points += at(episode().health, u) + (episode().shield ? at(episode().shield, u) : 0);
      full += unitOf(u).health + unitOf(u).shield;
    }
    $(`${side}-left`).textContent = `${left}/${to - from} ${word}`;
    $(`${side}-meter`).style.width = `${100 * points / full}%`;
  }
}

function showClock() {
  const i = step(), over = i >= steps();
  $("clock").textContent = `step ${i} of ${steps()}`;
  $("scrub").value = view.t;
  $("result").hidden = !over;
  $("result").textContent = `${episode().outcome} · return ${returnUpTo(i).toFixed(2)}`;
  $("begin").hidden = view.playing || view.t > 0;
  $("play").textContent = view.playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", view.playing ? "Pause" : "Play");
  $("speed").value = view.speed;
}

function showAgent() {
  const i = step(), agent = view.agent, {health, shield, energy, value, x, y, action} = episode();
  [...$("roster").children].forEach((button, u) => {
    button.title = unitName(u);
    button.setAttribute("aria-pressed", u === agent);
    button.classList.toggle("dead", !livesAt(u, i));
  });
  $("agent").hidden = agent === null;
  $("agent-name").textContent = agent === null ? "Pick an agent" : `agent ${agent}, ${typeOf(agent).name}`;
  $("agent-state").textContent = agent === null ? "" : livesAt(agent, i) ? "alive" : "dead";
  const moment = [view.episode, agent, i].join();
  if (agent === null || moment === $("agent").dataset.moment) return;
  $("agent").dataset.moment = moment;

  const unit = unitOf(agent), facts = [];
  function amount(name, points, full, colour) {
    facts.push(make("dt", {}, name), meter(points / full, colour));
    facts.push(make("dd", {class: "number", id: `agent-${name}`}, `${+points.toFixed(1)} / ${full}`));
  }
  function fact(name, text) {
    facts.push(make("dt", {}, name), make("dd", {class: "wide number", id: `agent-${name}`}, text));
  }
  amount("health", health[i][agent], unit.health, "health");
  if (unit.shield) amount("shield", shield[i][agent], unit.shield, "shield");
  if (unit.energy) amount("energy", energy[i][agent], unit.energy, "energy");
  if (value && livesAt(agent, i)) fact("value", value[i][agent].toFixed(2));
  fact("position", `${x[i][agent].toFixed(1)}, ${y[i][agent].toFixed(1)}`);
  const chosen = i < steps() ? action[i][agent] : null;
  fact("action", chosen === null ? "the battle is over" : actionName(agent, chosen));
  fill($("facts"), ...facts);

  const items = [];
  for (let a = 0; a < numActions; a++) {
    const state = a === chosen ? "chosen" : isAvailable(agent, a, i) ? "available" : "unavailable";
    items.push(make("li", {class: state, title: `${actionName(agent, a)}: ${state}`}, actionName(agent, a)));
  }
  const scrolled = $("actions").scrollTop;
  fill($("actions"), ...items);
  $("actions").scrollTop = scrolled;
}

// The charts: x runs over env steps, y is scaled to what there is.

const charts = [];

function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function addChart(id, name) {
  const plot = svg("svg", {preserveAspectRatio: "none", role: "img", "aria-label": `${name} over env steps`});
  const now = make("span", {class: "number", id: `${id}-now`}), range = make("span", {class: "dim number"});
  const chart = {id, plot, now, range};
  chart.box = make("div", {class: "chart", id}, make("div", {class: "head"}, make("h2", {}, name), range, now), plot);
  plot.addEventListener("click", event => {
    const box = plot.getBoundingClientRect();
    seek(Math.round((event.clientX - box.left) / box.width * steps()));
  });
  $("charts").append(chart.box);
  charts.push(chart);
}

const livingMean = (row, i) => {
  const living = row.filter((_, u) => livesAt(u, i));
  return sum(living) / living.length;
};

/** What a chart shows: curves as lists of [env step, value], and the text for the cursor's place. */
function content(id) {
  const {reward, value} = episode(), i = step();
  if (id === "reward")
    return {bars: reward, curves: [], now: i ? reward[i - 1].toFixed(3) : "–"};
  if (id === "return") {
    let total = 0;
    const curve = [[0, 0], ...reward.map((r, k) => [k + 1, total += r])];
    return {curves: [["", curve]], now: returnUpTo(i).toFixed(2)};
  }
  // The dead come last in both: their values mean nothing.
  const team = value.map((row, k) => [k, livingMean(row, k)]).filter(([, mean]) => !Number.isNaN(mean));
  const own = view.agent === null ? [] : value.map((row, k) => [k, row[view.agent]]).filter(([k]) => livesAt(view.agent, k));
  const now = [["agent", own], ["team", team]].filter(([, curve]) => i < curve.length);
  return {
    curves: [["team", team], ["agent", own]],
    now: now.map(([who, curve]) => `${who} ${curve[i][1].toFixed(2)}`).join(" · ") || "–",
  };
}

function drawCharts() {
  for (const chart of charts) {
    if (chart.id === "value") chart.box.hidden = !episode().value;
    if (chart.id === "value" && !episode().value) continue;
    const {bars = [], curves, now} = content(chart.id), T = steps();
    const values = [0, ...bars, ...curves.flatMap(([, curve]) => curve.map(([, v]) => v))];
    const low = Math.min(...values), high = Math.max(...values, low + 1e-6), y = v => 60 - 56 * (v - low) / (high - low);
    chart.plot.setAttribute("viewBox", `0 0 ${T} 64`);
    chart.now.textContent = now;
    chart.range.textContent = `${low.toFixed(low ? 1 : 0)} to ${high.toFixed(high < 1 ? 2 : 1)}`;
    chart.cursor = svg("line", {class: "cursor", y1: 0, y2: 64});
    fill(chart.plot,
      svg("line", {class: "zero", x1: 0, x2: T, y1: y(0), y2: y(0)}),
      ...bars.map((v, k) => svg("rect", {class: "bars", x: k + .15, width: .7, y: Math.min(y(v), y(0)), height: Math.abs(y(v) - y(0))})),
      ...curves.map(([kind, curve]) => svg("polyline", {class: `curve ${kind}`, points: curve.map(([k, v]) => `${k},${y(v)}`).join(" ")})),
      chart.cursor);
  }
  moveCursors();
}

function moveCursors() {
  for (const chart of charts) {
    if (!chart.cursor) continue;
    chart.cursor.setAttribute("x1", view.t);
    chart.cursor.setAttribute("x2", view.t);
    chart.now.textContent = content(chart.id).now;
  }
}
