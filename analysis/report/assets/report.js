'use strict';
const D = JSON.parse(document.getElementById('data').textContent);
const T = D.trials, N = T.id.length, shown = new Set(D.methods.map((_, i) => i));
const base = {template: 'none', font: {size: 13}, margin: {l: 70, r: 20, t: 10, b: 60}, hoverlabel: {align: 'left'},
              paper_bgcolor: '#fff', plot_bgcolor: '#fff'};
const config = {displaylogo: false, responsive: true, showSendToCloud: false};
const LAZY = ['solid', 'radii', 'best', 'smooth', 'slice', 'parallel'];
const all = Array.from({length: N}, (_, i) => i);
const escapeHtml = s => s.replace(/[&<>"]/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;'}[c]));
const axis = (text, more) => Object.assign({title: {text, standoff: 12}, zeroline: false, automargin: true}, more);
const number = v => v === null ? '-' : String(v);

function words(i) {
  const lines = ['<b>' + escapeHtml(T.id[i]) + '</b> ' + escapeHtml(D.methods[T.m[i]].name)];
  if (T.own[i]) lines.push(escapeHtml(T.own[i]));
  for (const [name, column] of Object.entries(D.params)) {
    if (column[i] !== null && !T.own[i].includes(name + ' ')) lines.push(escapeHtml(name) + ' ' + column[i]);
  }
  lines.push('clean ' + number(T.x[i]) + ', robust ' + number(T.y[i]) + ' (val)');
  lines.push('empirical local Lipschitz, lower bound: ' + number(T.lip[i]));
  if (T.p[i] !== null) lines.push('truly on the front with probability ' + T.p[i]);
  if (T.why[i]) lines.push('<b>' + escapeHtml(T.why[i]) + '</b>');
  return lines.join('<br>');
}

function points(indices, extra) {
  return Object.assign({mode: 'markers', x: indices.map(i => T.x[i]), y: indices.map(i => T.y[i]),
    customdata: indices, text: indices.map(words), hovertemplate: '%{text}<extra></extra>'}, extra);
}

function stairs(members, line) {
  const front = members.sort((a, b) => T.x[a] - T.x[b] || T.y[b] - T.y[a]);
  const x = [], y = [];
  front.forEach((i, at) => {
    x.push(at ? T.x[front[at - 1]] : 0, T.x[i]);
    y.push(T.y[i], T.y[i]);
  });
  if (front.length) { x.push(T.x[front[front.length - 1]]); y.push(0); }
  return {x, y, mode: 'lines', line, name: 'front', hoverinfo: 'skip', showlegend: false};
}

function range(values) {
  const known = values.filter(v => v !== null);
  const low = Math.min(...known.slice(0, 1), ...[known.reduce((a, b) => Math.min(a, b), Infinity)]);
  const high = known.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!known.length) return [0, 1];
  const margin = Math.max(0.06 * (high - low), 0.01);
  return [low - margin, high + margin];
}

// Trials far behind the front would press it into a corner: the chart begins near it, and says how many lie outside.
const WHOLE = [range(T.x), range(T.y)], beyond = (v, ends) => v < ends[0] || v > ends[1];
const outside = i => beyond(T.x[i], D.view[0]) || beyond(T.y[i], D.view[1]);
const everywhere = () => document.getElementById('extent').value === 'all';
function extent(mine) {
  const everything = everywhere(), far = mine.filter(outside).length;
  const said = everything ? '' : far + (far === 1 ? ' trial lies' : ' trials lie') +
    ' far behind the front, outside the axes: choose "all trials" above, or double-click into the chart.';
  document.getElementById('outside').textContent = far ? said : '';
  return everything ? WHOLE : D.view;
}

function flat() {
  const type = N > 2000 ? 'scattergl' : 'scatter';
  const mine = all.filter(i => shown.has(T.m[i]));
  const ends = extent(mine);
  const byLipschitz = document.getElementById('colour').value === 'lipschitz';
  const [cmin, cmax] = range(mine.filter(i => everywhere() || !outside(i)).map(i => T.z[i]));
  const traces = [stairs(all.filter(i => T.a[i]), {color: '#777', width: 1, dash: 'dot'}),
    stairs(all.filter(i => T.k[i] === 0), {color: '#444', width: 1.5})];
  D.methods.forEach((method, m) => {
    if (!shown.has(m)) return;
    const own = mine.filter(i => T.m[i] === m);
    const paint = rows => byLipschitz
      ? {color: rows.map(i => T.z[i]), coloraxis: 'coloraxis'} : {color: method.colour};
    [[1, 7, 0.45, 0], [2, 7, 0.9, 0], [0, 12, 1, 1.5]].forEach(([kind, size, opacity, width]) => {
      const rows = own.filter(i => T.k[i] === kind);
      const marker = kind === 2 ? {symbol: method.symbol + '-open', color: '#777', size, opacity}
        : Object.assign({symbol: method.symbol, size, opacity, line: {color: 'black', width}}, paint(rows));
      traces.push(points(rows, {type, name: method.label, legendgroup: method.label, showlegend: false, marker}));
    });
  });
  const layout = Object.assign({}, base, {height: 520, xaxis: axis(D.axes.x, {range: [...ends[0]]}),
    yaxis: axis(D.axes.y, {range: [...ends[1]]}), hovermode: 'closest',
    coloraxis: {cmin, cmax, colorscale: 'Cividis', reversescale: true, showscale: byLipschitz,
                colorbar: {title: {text: D.axes.z, side: 'right'}, thickness: 12}}});
  traces.push({type: 'scatter', mode: 'markers', x: [], y: [], hoverinfo: 'skip', showlegend: false,
    marker: {symbol: 'circle-open', size: 22, color: '#d00', line: {width: 3}}});
  return Plotly.react('flat', traces, layout, config);
}

function solid() {
  const mine = D.thin.filter(i => shown.has(T.m[i]) && T.z[i] !== null && (everywhere() || !outside(i)));
  const traces = [];
  D.methods.forEach((method, m) => {
    const part = (kind, marker) => {
      const own = mine.filter(i => T.m[i] === m && T.k[i] === kind);
      traces.push(points(own, {type: 'scatter3d', z: own.map(i => T.z[i]), name: method.label, showlegend: false,
        marker: Object.assign({symbol: method.solid}, marker)}));
    };
    part(1, {color: method.colour, size: 4, opacity: 0.5});
    part(2, {symbol: method.hollow, color: '#777', size: 4});
    part(0, {color: method.colour, size: 8, line: {color: 'black', width: 2}});
  });
  traces.push({type: 'scatter3d', mode: 'markers', x: [], y: [], z: [], hoverinfo: 'skip', showlegend: false,
    marker: {symbol: 'circle-open', size: 14, color: '#d00'}});
  const short = text => text.split('<br>')[0];
  const layout = Object.assign({}, base, {height: 520, margin: {l: 0, r: 0, t: 0, b: 0},
    scene: {aspectmode: 'cube', camera: {eye: {x: 1.6, y: -1.6, z: 0.9}},
            xaxis: {title: {text: short(D.axes.x)}}, yaxis: {title: {text: short(D.axes.y)}},
            zaxis: {title: {text: short(D.axes.z)}}}});
  return Plotly.react('solid', traces, layout, config);
}

function growth() {
  const hours = document.getElementById('against').value === 'hours';
  const trace = {x: hours ? D.growth.hours : D.growth.trials, y: D.growth.volume, mode: 'lines',
    line: {shape: 'hv', color: '#0072B2'}, hovertemplate: '%{x}: %{y}<extra></extra>'};
  return Plotly.react('growth', [trace], Object.assign({}, base, {height: 300,
    xaxis: {title: {text: hours ? D.growth.unit + ' of all trials until then' : 'trials ended'}, rangemode: 'tozero'},
    yaxis: {title: {text: 'hypervolume (clean, robust; val)'}}}), config);
}

// Trials of one chart by method: sound ones full where drawn at random and pale else, the front ringed, others hollow.
function cloud(rows, x, y) {
  const traces = [];
  D.methods.forEach((method, m) => {
    const own = rows.filter(i => T.m[i] === m && shown.has(m) && x[i] !== null && y[i] !== null);
    const part = (chosen, marker) => traces.push(Object.assign(points(chosen, {type: 'scatter', showlegend: false,
      name: method.label, marker: Object.assign({symbol: method.symbol, color: method.colour, size: 7}, marker)}),
      {x: chosen.map(i => x[i]), y: chosen.map(i => y[i])}));
    part(own.filter(i => T.k[i] !== 2 && !T.r[i]), {opacity: 0.35});
    part(own.filter(i => T.k[i] !== 2 && T.r[i]), {opacity: 0.95});
    part(own.filter(i => T.k[i] === 2), {symbol: method.symbol + '-open', color: '#777'});
  });
  const front = rows.filter(i => T.k[i] === 0 && shown.has(T.m[i]) && x[i] !== null && y[i] !== null);
  traces.push({x: front.map(i => x[i]), y: front.map(i => y[i]), mode: 'markers', hoverinfo: 'skip', showlegend: false,
    marker: {symbol: 'circle-open', size: 14, color: '#000', line: {width: 1.5}}});
  return traces;
}
const chosenIn = id => document.getElementById(id).value;
const framed = more => Object.assign({}, base, {height: 400, hovermode: 'closest'}, more);

// A constant network has 0, which no logarithmic axis shows.
const floored = v => v === null ? null : Math.max(v, 0.001);

function smooth() {
  const form = chosenIn('form'), outcome = chosenIn('smooth-outcome');
  return Plotly.react('smooth', cloud(D.thin, T[form].map(floored), T[outcome]), framed({
    xaxis: axis(D.axes[form], {type: 'log'}), yaxis: axis(D.axes[outcome])}), config);
}

function best() {
  const kind = chosenIn('kind'), last = kind === 'robust' ? T.y : T.x, top = kind === 'robust' ? T.by : T.bx;
  const traces = cloud(D.thin, last, top);
  const both = D.thin.filter(i => last[i] !== null && top[i] !== null);
  const ends = range(both.map(i => last[i]).concat(both.map(i => top[i])));
  const shapes = [{type: 'line', x0: ends[0], y0: ends[0], x1: ends[1], y1: ends[1], layer: 'below',
                   line: {color: '#999', width: 1}}];
  const attack = kind === 'robust' ? '<br>' + D.axes.attack : '';
  return Plotly.react('best', traces, framed({shapes,
    xaxis: axis('last checkpoint: ' + kind + ' accuracy (val)' + attack, {range: ends}),
    yaxis: axis('best checkpoint: ' + kind + ' accuracy (val)', {range: ends})}), config);
}

const DASHES = ['solid', 'dot', 'dashdot', 'dash', 'longdash', 'longdashdot'];
function radii() {
  const top = D.curves.reduce((most, c) => Math.max(most, c.radii[c.radii.length - 1]), D.epsilon || 0) || 1;
  const traces = D.curves.filter(c => shown.has(c.m)).map(c => ({x: c.radii, y: c.accuracies, mode: 'lines+markers',
    name: c.id + ' ' + D.methods[c.m].label, text: c.radii.map(() => c.words),
    hovertemplate: '%{fullData.name}<br>ε = %{x:.4g}: %{y:.4f}<br>%{text}<extra></extra>',
    line: {color: D.methods[c.m].colour, dash: c.radii.length > 2 ? DASHES[c.m % DASHES.length] : 'dot',
           width: c.radii.length > 2 ? 2 : 1},
    marker: {symbol: D.methods[c.m].symbol, size: 7}}));
  const shapes = [], annotations = [];
  const edge = 1.08 * Math.max(top, D.reach ? Math.min(D.reach.r, 3 * top) : 0);
  if (D.reach) {
    shapes.push({type: 'rect', xref: 'x', yref: 'paper', x0: 0, x1: Math.min(D.reach.r, edge), y0: 0, y1: 1,
                 fillcolor: '#eee', line: {width: 0}, layer: 'below'});
    annotations.push({x: 0, y: 1.02, xref: 'x', yref: 'paper', yanchor: 'bottom', xanchor: 'left', showarrow: false,
                      text: 'grey: ' + escapeHtml(D.reach.text), font: {size: 12}});
  }
  if (D.epsilon) {
    shapes.push({type: 'line', xref: 'x', yref: 'paper', x0: D.epsilon, x1: D.epsilon, y0: 0, y1: 1,
                 line: {color: '#555', dash: 'dash', width: 1}});
  }
  return Plotly.react('radii', traces, framed({shapes, annotations, margin: {l: 70, r: 20, t: 30, b: 60},
    xaxis: axis(D.axes.epsilon, {range: [-0.02 * edge, edge]}), yaxis: axis(D.axes.curves, {range: [-0.02, 1.04]}),
    legend: {font: {size: 11}}}), config);
}

function slice() {
  const setting = D.settings[Number(chosenIn('parameter'))], key = chosenIn('outcome');
  if (!setting) return null;
  const shapes = [];
  if (setting.name === 'train_epsilon') {
    [[D.epsilon, 'dash'], [D.reach ? D.reach.r : null, 'dot']].forEach(([at, dash]) => {
      if (at && at <= Math.max(...D.thin.map(i => setting.values[i] || 0), D.epsilon)) {
        shapes.push({type: 'line', xref: 'x', yref: 'paper', x0: at, x1: at, y0: 0, y1: 1,
                     line: {color: '#555', dash, width: 1}});
      }
    });
  }
  return Plotly.react('slice', cloud(D.thin, setting.values, T[key]), framed({shapes, height: 380,
    xaxis: axis(setting.label, {type: setting.log ? 'log' : 'linear'}), yaxis: axis(D.axes[key])}), config);
}

function parallel() {
  const mine = D.thin.filter(i => shown.has(T.m[i]) && T.k[i] !== 2);
  const column = (label, values, log) => {
    const scaled = mine.map(i => values[i] === null ? null : log ? Math.log10(values[i]) : values[i]);
    const known = scaled.filter(v => v !== null);
    if (!known.length) return null;
    const low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
    const extent = high - low || 1, none = low - 0.15 * extent, missing = known.length < mine.length;
    const marks = [0, 0.25, 0.5, 0.75, 1].map(share => low + share * extent);
    const said = marks.map(v => String(Number((log ? 10 ** v : v).toPrecision(3))));
    return {label, values: scaled.map(v => v === null ? none : v), range: [missing ? none : low, low + extent],
            tickvals: missing ? [none, ...marks] : marks, ticktext: missing ? ['none', ...said] : said};
  };
  const dimensions = [{label: 'method', values: mine.map(i => T.m[i]), tickvals: D.methods.map((_, i) => i),
                       ticktext: D.methods.map(m => m.label)},
    ...D.settings.slice(0, 6).map(s => column(s.short, s.values, s.log)),
    column('clean (val)', T.x), column('robust (val)', T.y), column('scale-free Lipschitz', T.sf.map(floored), true)];
  return Plotly.react('parallel', [{type: 'parcoords', dimensions: dimensions.filter(d => d !== null),
    line: {color: mine.map(i => T.y[i]), colorscale: 'Cividis'}}],
    Object.assign({}, base, {height: 380, margin: {l: 60, r: 60, t: 50, b: 30}}), config);
}

const charts = {flat, solid, growth, radii, best, smooth, slice, parallel}, drawn = new Set();
function draw(name) {
  const plot = charts[name]();
  if (!plot || drawn.has(name)) return plot;
  drawn.add(name);
  const div = document.getElementById(name);
  if (name === 'flat' || name === 'solid') {
    div.on('plotly_hover', event => mark(event.points[0].customdata, name));
    div.on('plotly_click', event => choose(event.points[0].customdata));
  }
  return plot;
}

// Marking a trial redraws a chart, which would take away the label of the one that the pointer is in.
function mark(i, within) {
  if (i === undefined || i === null) return;
  const last = div => document.getElementById(div).data.length - 1;
  if (drawn.has('flat') && within !== 'flat') Plotly.restyle('flat', {x: [[T.x[i]]], y: [[T.y[i]]]}, [last('flat')]);
  if (drawn.has('solid') && within !== 'solid' && T.z[i] !== null) {
    Plotly.restyle('solid', {x: [[T.x[i]]], y: [[T.y[i]]], z: [[T.z[i]]]}, [last('solid')]);
  }
  const parts = words(i).split('<br>').map(line => '<div>' + line + '</div>');
  document.getElementById('chosen').innerHTML = parts.join('');
}

function choose(i) {
  mark(i);
  const card = document.getElementById('card-' + T.id[i]);
  if (card) { card.open = true; }
}

function filter() {
  shown.clear();
  document.querySelectorAll('input[name=method]').forEach(box => { if (box.checked) shown.add(Number(box.value)); });
  const names = new Set([...shown].map(m => D.methods[m].name));
  document.querySelectorAll('[data-method]').forEach(row => { row.hidden = !names.has(row.dataset.method); });
  const count = T.m.filter(m => shown.has(m)).length;
  document.getElementById('count').textContent = count + ' of ' + N + ' measured trials shown';
}

document.querySelectorAll('input[name=method]').forEach(box => box.addEventListener('change', () => {
  filter();
  drawn.forEach(name => { if (name !== 'growth') draw(name); });
}));
Object.entries({colour: ['flat'], extent: ['flat', 'solid'], against: ['growth'], parameter: ['slice'],
  outcome: ['slice'], kind: ['best'], form: ['smooth'], 'smooth-outcome': ['smooth']}).forEach(([id, names]) => {
  document.getElementById(id).addEventListener('change', () => names.filter(name => drawn.has(name)).forEach(draw));
});
document.getElementById('member').addEventListener('change', event => {
  const i = T.id.indexOf(event.target.value);
  if (i >= 0) choose(i);
});
document.getElementById('parameter').innerHTML = D.settings.map((s, at) =>
  '<option value="' + at + '">' + escapeHtml(s.label) + '</option>').join('') || '<option>nothing varies</option>';

// The front by keyboard: arrows walk along it, Enter opens the member's card.
let at = -1;
document.getElementById('flat').addEventListener('keydown', event => {
  const front = all.filter(i => T.k[i] === 0 && shown.has(T.m[i])).sort((a, b) => T.x[a] - T.x[b] || T.y[b] - T.y[a]);
  const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
  if (!front.length || (!step && event.key !== 'Enter')) return;
  event.preventDefault();
  if (step) {
    at = at < 0 && step < 0 ? front.length - 1 : Math.max(0, Math.min(front.length - 1, at + step));
    mark(front[at]);
  } else if (at >= 0 && at < front.length) {
    choose(front[at]);
    const card = document.getElementById('card-' + T.id[front[at]]);
    if (card) card.querySelector('summary').focus();
  }
});

filter();
draw('flat');
draw('growth');
// What costs time is drawn when it comes into view.
const watcher = new IntersectionObserver(entries => entries.forEach(entry => {
  if (entry.isIntersecting && !drawn.has(entry.target.id)) draw(entry.target.id);
}), {rootMargin: '200px'});
// The page shows its first charts before it draws another.
(window.requestIdleCallback || setTimeout)(() => LAZY.forEach(id => watcher.observe(document.getElementById(id))));
// Paper is narrower than the screen that the charts were drawn for.
const PAPER = 680;
window.addEventListener('beforeprint', () => {
  document.querySelectorAll('details').forEach(card => { card.open = true; });
  LAZY.forEach(name => { if (!drawn.has(name)) draw(name); });
  drawn.forEach(name => Plotly.relayout(name, {autosize: false, width: PAPER}));
});
window.addEventListener('afterprint', () => {
  drawn.forEach(name => Plotly.relayout(name, {autosize: true, width: null}));
});
