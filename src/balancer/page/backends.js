// The table of backends, and the colour that each has in the chart.

const STATES = {
  up: ['up', 'good'],
  slow_start: ['slow start', 'busy'],
  checking: ['checking', 'idle'],
  draining: ['draining', 'warn'],
  ejected: ['ejected', 'bad', 'alarm'],
  down: ['down', 'bad'],
};
const AVAILABLE = new Set(['up', 'slow_start']);

// One backend keeps one colour for as long as it is in the chart.
const COLOURS = 8;
const colours = new Map();
const names = new Map();

function chartSeries() {
  const shown = new Set(backends.map((backend) => backend.id));
  for (const point of points) for (const id of Object.keys(point.values ?? {})) if (id !== 'others') shown.add(id);
  for (const backend of backends) names.set(backend.id, backend.name);
  for (const id of colours.keys()) if (!shown.has(id)) colours.delete(id);
  for (const id of names.keys()) if (!shown.has(id)) names.delete(id);
  for (const id of shown) {
    const taken = new Set(colours.values());
    for (let colour = 1; colour < COLOURS && !colours.has(id); colour += 1) if (!taken.has(colour)) colours.set(id, colour);
  }
  const named = [...colours].map(([key, colour]) => ({ key, name: names.get(key) ?? key, colour }));
  const others = [...shown].filter((id) => !colours.has(id));
  if (others.length === 0) return named;
  for (const point of points) if (point.values) point.values.others = others.reduce((sum, id) => sum + (point.values[id] ?? 0), 0);
  return [...named, { key: 'others', name: plural(others.length, 'other'), colour: COLOURS }];
}

// ---- the table ----

const cell = (label, ...children) => el('td', { role: 'cell', 'data-label': label }, ...children);
const numberCell = (label) => el('td', { role: 'cell', 'data-label': label, class: 'number' });

const backendRows = new Rows($('backends'), (first) => {
  const swatch = el('span', { class: 'swatch', 'aria-hidden': 'true' });
  const name = el('span');
  const drained = el('span', { class: 'tag', hidden: true }, 'drained');
  const about = el('span', { class: 'sub' });
  const state = el('span', { class: 'state' });
  const shown = new State(state);
  const since = el('span', { class: 'muted small' });
  const why = el('span', { class: 'sub why' });
  const connections = el('span');
  const fill = el('span');
  const bar = el('span', { class: 'bar', 'aria-hidden': 'true' }, fill);
  const [weight, total, failures] = ['Weight', 'Total', 'Failures'].map(numberCell);
  const check = el('span');
  const checked = el('span', { class: 'sub whole' });
  const checkError = el('span', { class: 'sub bad' });
  const down = el('span', { class: 'whole' });
  const up = el('span', { class: 'sub whole' });
  const button = el('button', { type: 'button' });
  let backend = first;
  button.addEventListener('click', () => (backend.drained ? enable(backend, button) : drain(backend)));
  const node = el('tr', { role: 'row' },
    el('th', { scope: 'row', role: 'rowheader' }, el('span', { class: 'name' }, swatch, el('span', {}, name, drained)), about),
    adorn(cell('State', el('div', {}, state, ' ', since, why)), { class: 'state-cell' }, []),
    adorn(cell('Connections', el('div', {}, connections, bar)), { class: 'load' }, []),
    weight, total, failures,
    cell('Last check', el('div', {}, check, checked, checkError)), cell('Traffic', el('div', {}, down, up)),
    el('td', { role: 'cell', class: 'act' }, button));
  return { node, update(fresh) { backend = fresh; update(); } };

  function update() {
    attribute(swatch, 'class', `swatch b${colours.get(backend.id) ?? COLOURS}`);
    say(name, backend.name);
    drained.hidden = !backend.drained || backend.state === 'draining';
    const same = backend.address === backend.name;
    say(about, [backend.id, same ? null : backend.address, `by ${backend.origin}`].filter(Boolean).join(' · '));
    shown.show(...(STATES[backend.state] ?? [backend.state, 'idle']));
    say(since, known(when(backend.since)) ? `for ${span(now - when(backend.since))}` : '');
    attribute(since, 'title', `since ${date(when(backend.since))}`);
    say(why, backend.why ?? '');
    updateLoad(backend, connections, fill, bar);
    say(weight, count(backend.weight));
    say(total, compact(backend.total));
    say(failures, compact(backend.failures));
    attribute(failures, 'class', backend.failures > 0 ? 'number warn' : 'number');
    updateCheck(backend, check, checked, checkError);
    attribute(down.parentNode, 'title', 'To clients, and from clients to this backend');
    say(down, `↓ ${bytes(backend.bytes_to_clients)}`);
    say(up, `↑ ${bytes(backend.bytes_to_backend)}`);
    say(button, backend.drained ? 'Enable' : 'Drain');
    attribute(button, 'aria-label', `${backend.drained ? 'Enable' : 'Drain'} ${backend.name}`);
  }
});

/** With a maximum the bar is the part of it that is used, else the backend's part of all connections. */
function updateLoad(backend, text, fill, bar) {
  const max = backend.max_connections;
  const all = backends.reduce((sum, one) => sum + one.connections, 0);
  const part = known(max) && max > 0 ? backend.connections / max : all ? backend.connections / all : 0;
  say(text, known(max) ? `${count(backend.connections)} of ${count(max)}` : `${count(backend.connections)} · ${Math.round(part * 100)} %`);
  attribute(bar, 'class', known(max) && part >= 0.9 ? 'bar full' : 'bar');
  fill.style.transform = `scaleX(${Math.min(1, part).toFixed(3)})`;
}

function updateCheck({ last_check: last, why }, text, below, error) {
  if (!last) {
    say(text, 'none yet');
    say(below, '');
    say(error, '');
    return;
  }
  const ago = `${span(now - when(last.at))} ago`;
  say(text, `${last.ok ? 'ok' : 'failed'}, ${milliseconds(last.latency_ms)}`);
  attribute(text, 'class', last.ok ? 'whole' : 'whole bad');
  attribute(text, 'title', last.error ?? null);
  say(below, last.status ? `${last.status}, ${ago}` : ago);
  // Why it failed is mostly why the backend is in its state, and then said there.
  say(error, last.error && !why.includes(last.error) ? last.error : '');
}

function drawBackends() {
  $('no-backends').hidden = backends.length > 0;
  $('backends-body').hidden = backends.length === 0;
  say($('backends-count'), backends.length ? count(backends.length) : '');
  backendRows.show(backends, (backend) => backend.id);
}
