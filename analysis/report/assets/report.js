const LABELS = JSON.parse(byId('labels').textContent);  // of the trials, by their rows
const ON_DARK = new Map(Object.entries(JSON.parse(byId('on-dark').textContent)));
const CONFIG = {displaylogo: false, responsive: true, showSendToCloud: false};
const charts = [...document.querySelectorAll('.chart')].map(chart => chart.id), drawn = new Set();
const boxes = [...document.querySelectorAll('input[name=method]')], member = byId('member');
const PAIR = ['flat', 'robust'].filter(byId);  // beside each other, on paper too
const LINKED = ['flat', 'robust', 'solid'].filter(byId);  // where a trial that is pointed at is marked
const shown = () => boxes.filter(box => box.checked).map(box => box.value);
const darkness = matchMedia('(prefers-color-scheme: dark)'), NARROW = 600;
let onPaper = false, ringed;  // ringed: the row of the trial that is marked

function figureOf(name) {
  const text = byId('figure-' + name).textContent;
  if (onPaper || !darkness.matches) return JSON.parse(text);
  const figure = JSON.parse(text, (key, value) => typeof value === 'string' ? ON_DARK.get(value) ?? value : value);
  const axis = {gridcolor: '#30363d', linecolor: '#555', zerolinecolor: '#555', backgroundcolor: '#14171a'};
  figure.layout.template = {layout: {paper_bgcolor: '#14171a', plot_bgcolor: '#14171a', font: {color: '#d8d8d8'},
    xaxis: axis, yaxis: axis, scene: {xaxis: axis, yaxis: axis, zaxis: axis}}};
  return figure;
}

// A figure as the page holds it, under what the reader chose: the entry of the chart's own menu, methods, axes.
function draw(name) {
  const menu = document.querySelector(`select[data-charts="${name}"]`), methods = shown();
  const brushed = boxes.flatMap((box, at) => box.checked ? [[at - 0.4, at + 0.4]] : []);
  const {data, layout} = figureOf(menu ? menu.value : name);
  data.forEach(trace => {
    trace.visible = trace.meta ? methods.includes(trace.meta) : !trace.dimensions || methods.length > 0;
    if (trace.customdata) trace.text = trace.customdata.map(row => LABELS[row]);
    if (trace.dimensions && methods.length < boxes.length) trace.dimensions[0].constraintrange = brushed;
  });
  const extent = byId('extent'), {xaxis, yaxis} = layout.scene || layout;
  if (extent?.value === 'all' && extent.dataset.charts.split(' ').includes(name)) {
    [xaxis, yaxis].forEach(axis => delete axis.range);
  }
  const beside = PAIR.includes(name);
  if (onPaper ? beside : innerWidth < NARROW) narrow(layout);
  if (onPaper) Object.assign(layout, {autosize: false, width: beside ? 335 : 680});  // paper is narrower than the screen
  if (LINKED.includes(name)) Object.assign(data[data.length - 1], placeOf(data, layout, name));
  Plotly.react(name, data, layout, CONFIG);
  if (drawn.has(name)) return;
  drawn.add(name);
  byId(name).on('plotly_hover', event => mark(event.points?.[0].customdata, name));
  byId(name).on('plotly_click', event => choose(event.points?.[0].customdata));
}

// A phone has no room for a colour bar beside a chart, nor for a legend.
function narrow(layout) {
  const bar = layout.coloraxis?.colorbar;
  if (bar) Object.assign(bar, {orientation: 'h', x: 0.5, y: 1.02, yanchor: 'bottom', len: 1, thickness: 10});
  if (bar) bar.title.side = 'top';
  if (bar) bar.title.font = {size: 10};
  if (layout.showlegend) Object.assign(layout.legend, {orientation: 'h', y: -0.3});
  Object.assign(layout.margin, {l: 50, r: 10});
}

// Where a chart has the trial that is marked, on each of its axes; of trials too many to be drawn, where it would be.
function placeOf(data, layout, name) {
  const trace = data.find(one => one.visible !== false && (one.customdata || []).includes(ringed));
  const hidden = data.some(one => one.visible === false && (one.customdata || []).includes(ringed));
  const all = trace || (hidden ? undefined : layout.meta), at = trace ? trace.customdata.indexOf(ringed) : ringed;
  const axes = name === 'solid' ? ['x', 'y', 'z'] : ['x', 'y'];
  return Object.fromEntries(axes.map(axis => [axis, all && all[axis][at] != null ? [all[axis][at]] : []]));
}

// Ringing a trial redraws a chart, which would take away the label of the point that the pointer is on.
function mark(row, within) {
  if (row === undefined) return;
  byId('chosen').innerHTML = LABELS[row];
  ring(row, within);
}

function ring(row, within) {
  ringed = row;
  LINKED.filter(name => drawn.has(name) && name !== within).forEach(name => {
    const {data, layout} = byId(name), axes = Object.entries(placeOf(data, layout, name));
    const place = axes.map(([axis, at]) => [axis, [at]]);
    Plotly.restyle(name, Object.fromEntries(place), [data.length - 1]);
  });
}

function choose(row) {
  mark(row);
  member.value = row;  // none is selected where it is no member
  if (member.selectedOptions.length) tell(row);
  unfold(member.selectedOptions[0]?.dataset.card);
}

// The answers are about one member at a time.
function tell(row) {
  const all = [...document.querySelectorAll('.member')], own = all.find(one => one.dataset.row === String(row));
  all.forEach(one => { one.hidden = one !== (own || all[all.length - 1]); });
}

// The most robust member of the front whose clean accuracy reaches the floor; without one, which comes nearest.
function reach(floor) {
  const members = [...member.options].filter(one => one.value), most = key => (one, other) =>
    other.dataset[key] - one.dataset[key];
  const best = members.filter(one => Number(one.dataset.clean) >= floor).sort(most('robust'))[0];
  const cleanest = members.sort(most('clean'))[0], highest = Number(cleanest.dataset.clean).toFixed(3);
  const none = `No member reaches ${floor}; the highest is ${cleanest.text}, ${highest}.`;
  byId('at-floor').textContent = best ? Number(best.dataset.robust).toFixed(3) : 'none';
  byId('at-floor-note').textContent = best ? best.dataset.note : none;
  document.querySelector('.numbers .paper').textContent = floor;
  if (best) mark(Number(best.value));
  else ring();
  if (!best) byId('unreached').textContent = byId('chosen').textContent = none;
  member.value = best?.value ?? '';
  tell(best?.value ?? 'none');
}

function filter() {
  document.querySelectorAll('[data-method]').forEach(row => { row.hidden = !shown().includes(row.dataset.method); });
  byId('count').textContent = boxes.reduce((sum, box) => sum + box.checked * box.dataset.measured, 0);
  drawn.forEach(draw);
}

document.addEventListener('change', ({target}) => {
  if (target.name === 'method') filter();
  else if (target.id === 'floor') reach(target.value = Math.min(Math.max(Number(target.value), 0), 1));
  else if (target !== member) target.dataset.charts.split(' ').filter(name => drawn.has(name)).forEach(draw);
  else if (member.value) choose(Number(member.value));
});
// The front by keyboard: arrows walk along it, Enter goes to the member's card.
byId('flat')?.addEventListener('keydown', event => {
  const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
  const front = [...member.options].filter(one => one.value && !one.hidden), at = front.findIndex(one => one.selected);
  if (step && front.length) choose(Number(front[Math.min(Math.max(at + step, 0), front.length - 1)].value));
  else if (event.key === 'Enter' && at >= 0) byId(front[at].dataset.card)?.querySelector('summary').focus();
  else return;
  event.preventDefault();
});
if (byId('floor')) reach(Number(byId('floor').value));
if (byId('flat')) draw('flat');
requestAnimationFrame(() => setTimeout(() => PAIR.filter(name => !drawn.has(name)).forEach(draw)));
// What costs time is drawn when it comes into view, and after the page has shown its first charts.
const watcher = new IntersectionObserver(entries => entries.filter(entry => entry.isIntersecting)
  .map(entry => entry.target.id).filter(name => !drawn.has(name)).forEach(draw), {rootMargin: '200px'});
(window.requestIdleCallback || setTimeout)(() => charts.forEach(name => watcher.observe(byId(name))));
// Plotly keeps the room of a colour bar that has moved, unless a chart is made afresh.
function afresh(names, paper) {
  onPaper = paper;
  names.forEach(name => { Plotly.purge(name); drawn.delete(name); draw(name); });
}
addEventListener('beforeprint', () => afresh(charts, true));
addEventListener('afterprint', () => afresh([...drawn], false));
darkness.addEventListener('change', () => drawn.forEach(draw));
