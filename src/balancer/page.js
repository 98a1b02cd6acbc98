// The balancer's page: the stream of events that its figures come through, and the start of everything. The tables and the
// commands are in the files of the folder beside this one, which come before it.

const EVENTS_KEPT = 200;
const HIDDEN_PATIENCE_MS = 60_000; // how long the stream is kept open for a page nobody sees

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
  peer: 'the balancer', silenceMs: 5000, open: openStream, close: closeStream, changed: () => freshness(),
  back: (away) => {
    events.push({ at: new Date().toISOString(), kind: 'page', text: `This page was without connection for ${span(away)}.` });
    soon();
  },
});

/** The figures became old or fresh. */
function freshness() {
  soon();
  if (!document.body.classList.contains('stale')) fetchClients();
}

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
  chart.show(points, series, points.length ? points.at(-1).t : now, link.state === 'live');
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
