'use strict';
const byId = name => document.getElementById(name);
const LABELS = JSON.parse(byId('labels').textContent);  // of the trials, by their rows
const CONFIG = {displaylogo: false, responsive: true, showSendToCloud: false};
const charts = [...document.querySelectorAll('.chart')].map(chart => chart.id), drawn = new Set();
const boxes = [...document.querySelectorAll('input[name=method]')], member = byId('member');
const shown = () => boxes.filter(box => box.checked).map(box => box.value);
const unfold = name => { if (byId(name)) byId(name).open = true; };

// A figure as the page holds it, under what the reader chose: the entry of the chart's own menu, methods, axes.
function draw(name) {
  const menu = document.querySelector(`select[data-charts="${name}"]`), methods = shown();
  const brushed = boxes.flatMap((box, at) => box.checked ? [[at - 0.4, at + 0.4]] : []);
  const {data, layout} = JSON.parse(byId('figure-' + (menu ? menu.value : name)).textContent);
  data.forEach(trace => {
    trace.visible = trace.meta ? methods.includes(trace.meta) : !trace.dimensions || methods.length > 0;
    if (trace.customdata) trace.text = trace.customdata.map(row => LABELS[row]);
    if (trace.dimensions && methods.length < boxes.length) trace.dimensions[0].constraintrange = brushed;
  });
  const extent = byId('extent'), {xaxis, yaxis} = layout.scene || layout;
  if (extent.value === 'all' && extent.dataset.charts.includes(name)) [xaxis, yaxis].forEach(axis => delete axis.range);
  Plotly.react(name, data, layout, CONFIG);
  if (drawn.has(name)) return;
  drawn.add(name);
  byId(name).on('plotly_hover', event => mark(event.points?.[0].customdata, name));
  byId(name).on('plotly_click', event => choose(event.points?.[0].customdata));
}

// Ringing a trial redraws a chart, which would take away the label of the point that the pointer is on.
function mark(row, within) {
  if (row === undefined) return;
  ['flat', 'solid'].filter(name => drawn.has(name) && name !== within).forEach(name => {
    const {data} = byId(name), axes = name === 'solid' ? ['x', 'y', 'z'] : ['x', 'y'];
    const trace = data.find(one => one.visible && (one.customdata || []).includes(row));
    const place = axes.map(axis => [axis, [trace ? [trace[axis][trace.customdata.indexOf(row)]] : []]]);
    Plotly.restyle(name, Object.fromEntries(place), [data.length - 1]);
  });
  byId('chosen').innerHTML = LABELS[row];
}

function choose(row) {
  mark(row);
  member.value = row;  // none is selected where it is no member
  unfold(member.selectedOptions[0]?.dataset.card);
}

function filter() {
  document.querySelectorAll('[data-method]').forEach(row => { row.hidden = !shown().includes(row.dataset.method); });
  byId('count').textContent = boxes.reduce((sum, box) => sum + box.checked * box.dataset.measured, 0);
  drawn.forEach(draw);
}

document.addEventListener('change', ({target}) => {
  if (target.name === 'method') filter();
  else if (target !== member) target.dataset.charts.split(' ').filter(name => drawn.has(name)).forEach(draw);
  else if (member.value) choose(Number(member.value));
});
// The front by keyboard: arrows walk along it, Enter goes to the member's card.
byId('flat').addEventListener('keydown', event => {
  const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
  const front = [...member.options].filter(one => one.value && !one.hidden), at = front.findIndex(one => one.selected);
  if (step && front.length) choose(Number(front[Math.min(Math.max(at + step, 0), front.length - 1)].value));
  else if (event.key === 'Enter' && at >= 0) byId(front[at].dataset.card)?.querySelector('summary').focus();
  else return;
  event.preventDefault();
});
addEventListener('hashchange', () => unfold(decodeURIComponent(location.hash.slice(1))));
draw('flat');
// What costs time is drawn when it comes into view, and after the page has shown its first chart.
const watcher = new IntersectionObserver(entries => entries.filter(entry => entry.isIntersecting)
  .map(entry => entry.target.id).filter(name => !drawn.has(name)).forEach(draw), {rootMargin: '200px'});
(window.requestIdleCallback || setTimeout)(() => charts.forEach(name => watcher.observe(byId(name))));
const resize = width => drawn.forEach(name => Plotly.relayout(name, {autosize: !width, width}));
addEventListener('beforeprint', () => {
  document.querySelectorAll('details').forEach(card => { card.open = true; });
  charts.filter(name => !drawn.has(name)).forEach(draw);
  resize(680);  // paper is narrower than the screen
});
addEventListener('afterprint', () => resize(null));
