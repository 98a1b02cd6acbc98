// The balancer's page. Figures come through one stream of events; the table of clients is asked for, a page at a time.

const CLIENTS_PER_PAGE = 25;
const CLIENTS_EVERY_MS = 4000;
const EVENTS_KEPT = 200;
const COLOURS = 8;
const HIDDEN_PATIENCE_MS = 60_000; // how long the stream is kept open for a page nobody sees

const STATES = {
  up: ['up', 'good'],
  slow_start: ['slow start', 'busy'],
  checking: ['checking', 'idle'],
  draining: ['draining', 'warn'],
  ejected: ['ejected', 'bad', 'alarm'],
  down: ['down', 'bad'],
};
const AVAILABLE = new Set(['up', 'slow_start']);

const KINDS = {
  backend_added: ['added', 'busy'],
  backend_removed: ['removed', 'idle'],
  backend_up: ['up', 'good'],
  backend_down: ['down', 'bad'],
  backend_ejected: ['ejected', 'bad', 'alarm'],
  backend_draining: ['draining', 'warn'],
  backend_enabled: ['enabled', 'good'],
  failover: ['failover', 'bad', 'alarm'],
  resolved: ['DNS', 'idle'],
  file_changed: ['file', 'idle'],
  file_bad: ['file', 'bad', 'alarm'],
  page: ['this page', 'idle'],
};

let now = Date.now(); // the balancer's clock
let points = [];
let events = [];
let backends = [];
let snapshot = null;
let dirty = false;

const backendName = (id) => backends.find((backend) => backend.id === id)?.name ?? id;

// ---- the stream ----

let source = null;

function openStream() {
  const stream = new EventSource('api/events');
  source = stream;
  const take = (name, use) => stream.addEventListener(name, (message) => {
    if (stream !== source) return;
    try {
      use(JSON.parse(message.data));
    } catch (error) {
      link.lost(`it said what this page does not understand (${error.message})`);
      return;
    }
    link.live();
    soon();
  });
  take('history', takeHistory);
  take('snapshot', takeSnapshot);
  take('event', takeEvent);
  stream.addEventListener('error', () => {
    if (stream === source) link.lost(link.state === 'live' ? 'it ended the connection' : 'it cannot be reached');
  });
}

function closeStream() {
  source?.close();
  source = null;
}

/** What happened before this page looked. What was seen by backend stays so. */
function takeHistory(history) {
  const seen = new Map(points.filter((point) => point.values).map((point) => [Math.round(point.t / 1000), point]));
  const old = (history.connections ?? []).filter(([t, n]) => known(t) && known(n));
  points = old.map(([t, n]) => seen.get(Math.round(t / 1000)) ?? { t, total: n, values: null });
  const own = events.filter((event) => event.kind === 'page');
  events = [...(history.events ?? []), ...own].sort((one, other) => when(one.at) - when(other.at));
}

function takeSnapshot(fresh) {
  if (!Array.isArray(fresh.backends) || !known(when(fresh.at))) throw new Error('a snapshot without backends or time');
  snapshot = fresh;
  backends = fresh.backends;
  now = when(fresh.at);
  const values = {};
  for (const backend of backends) values[backend.id] = backend.connections;
  if (points.length && points.at(-1).t >= now) points = points.filter((point) => point.t < now);
  points.push({ t: now, total: fresh.connections, values });
  points = points.filter((point) => point.t > now - WINDOW_MS - 5000);
}

function takeEvent(event) {
  events.push(event);
  events = events.slice(-EVENTS_KEPT);
  announcer.say(event.text);
}

const link = new Link({
  peer: 'the balancer', silenceMs: 5000, open: openStream, close: closeStream,
  back: (away) => {
    events.push({ at: new Date().toISOString(), kind: 'page', text: `This page was without connection for ${span(away)}.` });
    soon();
  },
});

let patience = 0;
document.addEventListener('visibilitychange', () => {
  clearTimeout(patience);
  if (document.hidden) patience = setTimeout(() => link.pause(), HIDDEN_PATIENCE_MS);
  else if (link.state === 'paused') link.tryNow();
});

// ---- drawing: at most once a frame, and not at all while nobody looks ----

function soon() {
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(() => {
    dirty = false;
    draw();
  });
}

const phase = new State($('phase'));
phase.show(NOTHING, 'idle');
const chart = new Chart($('chart'), {
  what: 'Connections', stacked: true, format: count, summary: $('chart-summary'), table: $('chart-table'),
});

function draw() {
  if (snapshot) {
    drawTiles();
    drawBackends();
    drawFilter();
  }
  const series = chartSeries();
  legend($('legend'), series);
  chart.show(points, series, points.length ? points.at(-1).t : now);
  drawEvents();
}

function drawTiles() {
  const available = backends.filter((backend) => AVAILABLE.has(backend.state)).length;
  const { connections, queued, accepted, refused } = snapshot;
  const [name, tone] = phaseOf(snapshot.phase);
  phase.show(name, tone);
  say($('strategy'), String(snapshot.strategy ?? NOTHING).replaceAll('_', ' '));
  say($('t-connections'), compact(connections));
  say($('t-connections-sub'), `${compact(accepted)} since the start`);
  say($('t-available'), `${count(available)} of ${count(backends.length)}`);
  const missing = backends.length - available;
  say($('t-available-sub'), backends.length === 0 ? 'none are known' : missing === 0 ? 'all of them' : `${count(missing)} not available`);
  attribute($('t-available'), 'class', available === 0 ? 'bad' : missing ? 'warn' : '');
  say($('t-new'), rate(snapshot.new_per_second));
  say($('t-new-sub'), 'per second');
  say($('t-queued'), compact(queued));
  say($('t-queued-sub'), `${compact(refused)} refused so far`);
  say($('t-down'), bytes(snapshot.bytes_per_second?.to_clients));
  say($('t-up'), bytes(snapshot.bytes_per_second?.to_backends));
  document.title = `${compact(connections)} connections, ${available} of ${backends.length} up · throng balance`;
}

// ---- colours: one backend keeps one for as long as it is in the chart ----

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

// ---- backends ----

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

// ---- events ----

const eventKeys = new WeakMap();
let eventsMade = 0;
const eventRows = new Rows($('events'), (event) => {
  const state = el('span', { class: 'state' });
  const [text, tone, shape] = KINDS[event.kind] ?? [String(event.kind).replaceAll('_', ' '), 'idle'];
  new State(state).show(text, tone, shape);
  const clients = event.clients > 0 && !/client/.test(event.text) ? ` (${plural(event.clients, 'client')})` : '';
  const time = el('time', { datetime: event.at, title: date(when(event.at)) }, clock(when(event.at)));
  const who = event.backend ? `${backendName(event.backend)} ` : '';
  const said = event.text?.includes(who.trim()) ? '' : who;
  return { node: el('li', {}, time, el('div', { class: 'what' }, state, ' ', `${said}${event.text ?? ''}${clients}`)), update() {} };
});

function drawEvents() {
  $('no-events').hidden = events.length > 0;
  say($('events-count'), events.length ? `the last ${count(events.length)}, newest first` : '');
  for (const event of events) if (!eventKeys.has(event)) eventKeys.set(event, (eventsMade += 1));
  eventRows.show([...events].reverse(), (event) => eventKeys.get(event));
}

// ---- commands ----

const TOKEN = 'throng-admin-token';
const token = () => remember('sessionStorage', TOKEN);

/** Asks the balancer to do something. Throws what is to be shown; `status` tells why, if it answered. */
async function command(path, bearer) {
  const headers = { accept: 'application/json' };
  if (bearer) headers.authorization = `Bearer ${bearer}`;
  let response;
  try {
    response = await fetch(path, { method: 'POST', headers, cache: 'no-store', signal: AbortSignal.timeout(10_000) });
  } catch (error) {
    throw new Error(error.name === 'TimeoutError' ? 'The balancer did not answer in time.' : 'The balancer cannot be reached.');
  }
  if (response.ok) return;
  const body = await response.json().catch(() => null);
  throw Object.assign(new Error(`${body?.error ?? 'The balancer refused'} (${response.status})`), { status: response.status });
}

/** One dialog for what has to be confirmed, and for the token. */
const asking = { act: null };

function ask({ title, text, label, danger, act, error }) {
  asking.act = act;
  say($('ask-title'), title);
  say($('ask-text'), text);
  say($('ask-do'), label);
  attribute($('ask-do'), 'class', danger ? 'danger' : 'primary');
  $('token').value = '';
  $('ask-token').hidden = token() !== null;
  showAskError(error ?? '');
  if (!$('ask').open) $('ask').showModal();
  if (!$('ask-token').hidden) $('token').focus();
}

function showAskError(text) {
  $('ask-error').hidden = text === '';
  say($('ask-error'), text);
}

async function answerAsked() {
  const bearer = $('ask-token').hidden ? token() : $('token').value.trim();
  $('ask-do').disabled = true;
  showAskError('');
  try {
    await asking.act(bearer);
    if (bearer) remember('sessionStorage', TOKEN, bearer);
    $('ask').close();
  } catch (error) {
    refused(error);
    showAskError(error.message);
  }
  $('ask-do').disabled = false;
  showForget();
}

/** A token that was refused is not used again. */
function refused(error) {
  if (error.status !== 401) return;
  remember('sessionStorage', TOKEN, null);
  $('ask-token').hidden = false;
  $('token').focus();
  $('token').select();
  showForget();
}

const showForget = () => { $('forget').hidden = token() === null; };

$('ask-form').addEventListener('submit', (event) => {
  event.preventDefault();
  answerAsked();
});
$('ask-cancel').addEventListener('click', () => $('ask').close());
$('forget').addEventListener('click', () => {
  remember('sessionStorage', TOKEN, null);
  showForget();
  announcer.say('The admin token is forgotten');
  $('backends-title').scrollIntoView({ block: 'nearest' });
});

const pathOf = (backend, verb) => `api/backends/${encodeURIComponent(backend.id)}/${verb}`;

function drain(backend) {
  const others = backends.filter((other) => other.id !== backend.id && AVAILABLE.has(other.state)).length;
  const last = AVAILABLE.has(backend.state) && others === 0;
  ask({
    title: `Drain ${backend.name}?`,
    text: `It takes no new connections until it is enabled again; its ${plural(backend.connections, 'client')} may stay.`
      + (last ? ' It is the last one available: new clients will be refused.' : ''),
    label: 'Drain', danger: true,
    act: (bearer) => command(pathOf(backend, 'drain'), bearer),
  });
}

async function enable(backend, button) {
  const act = (bearer) => command(pathOf(backend, 'enable'), bearer);
  const again = (error) => ask({
    title: `Enable ${backend.name}`, text: 'It takes new connections again once its checks pass.', label: 'Enable', act, error,
  });
  if (token() === null) {
    again();
    return;
  }
  button.disabled = true;
  try {
    await act(token());
  } catch (error) {
    refused(error);
    again(error.message);
  }
  button.disabled = false;
}

// ---- clients ----

const clients = { before: [], after: null, next: null, total: 0, query: '', of: '', asked: 0, timer: 0 };

const clientRows = new Rows($('clients'), () => {
  const id = el('span');
  const made = el('span', { class: 'tag' }, 'generated');
  const connection = el('span', { class: 'muted mono connection' });
  const [user, name, address, backend, since] = ['User', 'Name', 'Address', 'Backend', 'Connected'].map((label) => cell(label));
  const [down, up] = [el('span', { class: 'whole' }), el('span', { class: 'whole muted' })];
  const traffic = adorn(cell('Traffic', down, ' ', up), { title: 'To the client, and from it', class: 'traffic' }, []);
  since.classList.add('whole');
  address.classList.add('mono');
  const node = el('tr', { role: 'row' },
    el('th', { scope: 'row', role: 'rowheader' }, id, ' ', connection, made), user, name, address, backend, since, traffic);
  const or = (text) => (text === null || text === undefined || text === '' ? NOTHING : text);
  return {
    node,
    update(client) {
      say(id, client.id);
      made.hidden = !client.generated;
      say(connection, client.connection);
      say(user, or(client.user_id));
      say(name, or(client.name));
      // On a phone only what tells something new is shown.
      user.classList.toggle('dull', !client.user_id || client.user_id === client.id);
      name.classList.toggle('dull', !client.name || client.name === client.id);
      say(address, or(client.address));
      say(backend, client.backend ? backendName(client.backend) : NOTHING);
      say(since, known(when(client.since)) ? span(now - when(client.since)) : NOTHING);
      attribute(since, 'title', `since ${date(when(client.since))}`);
      say(down, `↓ ${bytes(client.bytes_to_client)}`);
      say(up, `↑ ${bytes(client.bytes_from_client)}`);
    },
  };
});

async function fetchClients() {
  clearTimeout(clients.timer);
  if (document.hidden) return; // it is asked again when the page is seen
  const asked = (clients.asked += 1);
  const parameters = new URLSearchParams({ limit: CLIENTS_PER_PAGE });
  if (clients.after) parameters.set('after', clients.after);
  if (clients.query) parameters.set('q', clients.query);
  if (clients.of) parameters.set('backend', clients.of);
  const began = performance.now();
  let failure = '';
  try {
    const response = await fetch(`api/clients?${parameters}`, { cache: 'no-store', signal: AbortSignal.timeout(10_000) });
    const body = await response.json();
    if (asked !== clients.asked) return;
    if (!response.ok) throw new Error(body.error ?? `status ${response.status}`);
    takeClients(body);
  } catch (error) {
    if (asked !== clients.asked) return;
    failure = error.name === 'TimeoutError' ? 'the balancer did not answer in time' : error.message;
  }
  showClientsFailure(failure);
  // A balancer that takes long to answer is asked less often.
  const pause = Math.max(CLIENTS_EVERY_MS, 10 * (performance.now() - began));
  clients.timer = setTimeout(fetchClients, Math.min(60_000, pause));
}

function showClientsFailure(why) {
  // While the balancer is away as a whole, the bar says so.
  $('clients-error').hidden = why === '' || link.state !== 'live';
  if (why) say($('clients-error'), `The list is old; it could not be had again: ${why}.`);
  $('clients-body').classList.toggle('late', why !== '');
}

function takeClients(body) {
  if (body.clients.length === 0 && clients.before.length > 0) {
    clients.after = clients.before.pop(); // all of this page have left
    clients.timer = setTimeout(fetchClients, 0);
    return;
  }
  clients.next = body.next;
  clients.total = body.total;
  clientRows.show(body.clients, (client) => client.connection);
  const filtered = clients.query !== '' || clients.of !== '';
  say($('clients-count'), known(body.total) ? `${count(body.total)}${filtered ? ' found' : ''}` : '');
  say($('page-number'), body.total > 0 ? `page ${clients.before.length + 1} of ${count(Math.max(clients.before.length + 1, Math.ceil(body.total / CLIENTS_PER_PAGE)))}` : '');
  $('previous').disabled = clients.before.length === 0;
  $('next').disabled = body.next === null || body.next === undefined;
  showNoClients(body.clients.length === 0, filtered);
}

function showNoClients(none, filtered) {
  $('no-clients').hidden = !none;
  $('clients-body').hidden = none;
  say($('no-clients-title'), filtered ? 'No client matches.' : 'No clients are connected.');
  say($('no-clients-text'), filtered
    ? 'The text is looked for in ids, users, names and addresses; the filter keeps the clients of one backend.'
    : 'Clients appear here as soon as they connect. Try one:');
  $('no-clients-how').hidden = filtered;
  $('clear').hidden = !filtered;
}

function turnTo(after, before) {
  Object.assign(clients, { after, before });
  fetchClients();
}

$('next').addEventListener('click', () => clients.next && turnTo(clients.next, [...clients.before, clients.after]));
$('previous').addEventListener('click', () => clients.before.length && turnTo(clients.before.at(-1), clients.before.slice(0, -1)));

let typing = 0;
$('search').addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    clients.query = $('search').value.trim();
    turnTo(null, []);
  }, 250);
});
$('of').addEventListener('change', () => {
  clients.of = $('of').value;
  turnTo(null, []);
});
$('clear').addEventListener('click', () => {
  $('search').value = clients.query = '';
  $('of').value = clients.of = '';
  turnTo(null, []);
  $('search').focus();
});
document.addEventListener('visibilitychange', () => document.hidden || fetchClients());

/** The choice of a backend; one that left stays chosen, as its name in the list. */
function drawFilter() {
  const wanted = JSON.stringify(backends.map(({ id, name }) => [id, name]));
  if ($('of').dataset.shown === wanted) return;
  $('of').dataset.shown = wanted;
  const options = backends.map(({ id, name }) => el('option', { value: id }, name));
  if (clients.of && !backends.some(({ id }) => id === clients.of)) options.push(el('option', { value: clients.of }, `${clients.of} (left)`));
  $('of').replaceChildren(el('option', { value: '' }, 'All backends'), ...options);
  $('of').value = clients.of;
}

// ---- start ----

startTheme();
showForget();
const websocket = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`;
say($('where'), location.host);
say($('how-backends'), `throng balance --backend node-1:8080 --backend node-2:8080

curl -X POST ${location.origin}/api/backends \\
  -H "Authorization: Bearer $THRONG_ADMIN_TOKEN" \\
  -d '{"address":"node-1:8080"}'`);
say($('how-clients'), `throng client --url ${websocket} --name alice`);
link.tryNow();
fetchClients();
