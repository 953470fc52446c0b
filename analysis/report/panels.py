"""More of the report's script: Lipschitzness, settings, checkpoints and radii as charts."""

PANELS = r"""
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
"""
