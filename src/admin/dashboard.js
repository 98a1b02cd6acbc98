// A node's page. It asks for the overview each second and works out rates and charts from the counters it gets.

const EVERY_MS = 1000;
const PATIENCE_MS = 4000;
const ANSWERS_KEPT = 60;

let overview = null;
let before = null; // the overview before that
let points = []; // { t, total, values } for the connections
let messages = []; // the same for the messages per second
const answers = []; // how long the node took, in milliseconds
const instances = []; // the instances that answered, in their order

// ---- asking ----

let timer = 0;
let asked = 0;

async function ask() {
  clearTimeout(timer);
  const mine = (asked += 1);
  const began = performance.now();
  let fresh;
  try {
    const response = await fetch('api/overview', { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!response.ok) throw new Error(`it answered with status ${response.status}`);
    fresh = await response.json();
    if (!known(when(fresh.timestamp)) || !fresh.counters) throw new Error('it said what this page does not understand');
  } catch (error) {
    if (mine !== asked) return;
    const why = { TimeoutError: 'it does not answer', TypeError: 'it cannot be reached', SyntaxError: 'it said what is no JSON' };
    link.lost(why[error.name] ?? error.message);
    return;
  }
  if (mine !== asked) return;
  answers.push(performance.now() - began);
  if (answers.length > ANSWERS_KEPT) answers.shift();
  take(fresh);
  link.live();
  timer = setTimeout(ask, Math.max(0, EVERY_MS - (performance.now() - began)));
  requestAnimationFrame(draw);
}

function stop() {
  clearTimeout(timer);
  asked += 1;
}

const link = new Link({ peer: 'the node', silenceMs: PATIENCE_MS + 2 * EVERY_MS, open: ask, close: stop, changed: () => requestAnimationFrame(draw) });

document.addEventListener('visibilitychange', () => {
  if (document.hidden) link.pause();
  else link.tryNow();
});

// ---- taking in ----

/** Per second since the overview before, or null if there is none to compare with. */
function perSecond(name) {
  if (!before) return null;
  const seconds = (when(overview.timestamp) - when(before.timestamp)) / 1000;
  const more = overview.counters[name] - before.counters[name];
  return seconds > 0 && more >= 0 ? more / seconds : null;
}

function take(fresh) {
  const instance = fresh.identity?.instance_id;
  const same = overview?.identity?.instance_id === instance;
  if (!same) another(instance, fresh);
  if (same && when(fresh.timestamp) <= when(overview.timestamp)) return;
  before = same ? overview : null;
  overview = fresh;
  const t = when(fresh.timestamp);
  points.push({ t, total: fresh.connections, values: { connections: fresh.connections } });
  const [received, sent] = ['messages_received', 'messages_sent'].map(perSecond);
  // After a pause the rate is that of the whole pause; it is not drawn as if it were of a second.
  const steady = before && t - when(before.timestamp) <= GAP_MS;
  messages.push({ t, total: 0, values: steady && received !== null ? { received, sent } : null });
  for (const list of [points, messages]) while (list.length && list[0].t < t - WINDOW_MS - 5000) list.shift();
}

/** Another process answers than before: the node was restarted, or this address leads to several nodes. */
function another(instance, fresh) {
  const seen = instances.includes(instance);
  if (overview) {
    [points, messages] = [[], []];
    announcer.say(`${fresh.node_id} answers now, instance ${instance}`);
    $('several').hidden = false;
    say($('several'), seen
      ? 'Several nodes answer at this address in turn, probably behind a load balancer, so these figures jump between them. Open a node’s page at its own address.'
      : `Since ${clock(when(fresh.timestamp))} another instance answers: the node was restarted, or this address leads to another one. The charts begin anew.`);
  }
  if (!seen) instances.push(instance);
  if (instances.length > 64) instances.shift();
}

// ---- drawing ----

const phase = new State($('phase'));
phase.show(NOTHING, 'idle');
const clusterState = new State($('cluster-state'));
const connectionsChart = new Chart($('connections'), {
  what: 'Connections', stacked: true, format: count, summary: $('connections-summary'), table: $('connections-table'),
});
const messagesChart = new Chart($('messages'), {
  what: 'Messages per second', stacked: false, format: rate, summary: $('messages-summary'), table: $('messages-table'),
});
const CONNECTION_SERIES = [{ key: 'connections', name: 'Connections', colour: 1 }];
const MESSAGE_SERIES = [{ key: 'received', name: 'in', colour: 1 }, { key: 'sent', name: 'out', colour: 2, dashed: true }];

function draw() {
  if (!overview || document.hidden) return;
  drawHead();
  drawTiles();
  const now = when(overview.timestamp);
  const fresh = link.state === 'live';
  connectionsChart.show(points, CONNECTION_SERIES, now, fresh);
  messagesChart.show(messages, MESSAGE_SERIES, now, fresh);
  legend($('messages-legend'), MESSAGE_SERIES, true);
  drawDelivery();
  drawIdentity();
  drawDrain();
  drawReactors();
  drawClosed();
  drawCluster();
  $('quiet').hidden = overview.connections > 0 || overview.counters.handshakes > 0;
}

function drawHead() {
  phase.show(...phaseOf(overview.phase));
  say($('where'), overview.node_id);
  say($('uptime'), span(when(overview.timestamp) - when(overview.identity.started_at)));
  document.title = `${compact(overview.connections)} connections · ${overview.node_id} · throng`;
}

function drawTiles() {
  const { connections, connections_max: max, resident_bytes: resident } = overview;
  say($('t-connections'), compact(connections));
  say($('t-connections-sub'), `of ${compact(max)} at most`);
  say($('t-users'), compact(overview.users));
  say($('t-in'), rate(perSecond('messages_received')));
  say($('t-out'), rate(perSecond('messages_sent')));
  say($('t-bytes-in'), bytes(perSecond('bytes_received')));
  say($('t-bytes-out'), bytes(perSecond('bytes_sent')));
  say($('t-memory'), bytes(resident));
  say($('t-memory-sub'), `${cpu()} of a processor`);
  say($('t-answer'), milliseconds(answers.at(-1)));
  const sorted = [...answers].sort((one, other) => one - other);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
  say($('t-answer-sub'), `p50 ${brief(at(0.5))}, p99 ${brief(at(0.99))} ms`);
  attribute($('t-answer-sub'), 'title', `How long the last ${plural(sorted.length, 'request')} of this page took, the way included`);
}

const brief = (value) => value.toFixed(value < 10 ? 1 : 0);

function cpu() {
  if (!before || !known(overview.cpu_seconds) || !known(before.cpu_seconds)) return NOTHING;
  const seconds = (when(overview.timestamp) - when(before.timestamp)) / 1000;
  return seconds > 0 ? `${Math.round(((overview.cpu_seconds - before.cpu_seconds) / seconds) * 100)} %` : NOTHING;
}

/** Counters shown: a name, what it means, and whether more than none is a fault. */
const DELIVERY = [
  ['delivered', 'Delivered to a user', 'at least one connection took it'],
  ['offline', 'User offline', 'no connection anywhere'],
  ['broadcasts', 'Broadcasts', 'messages to everybody'],
  ['slow_consumer', 'Dropped: slow consumer', 'the client reads too slowly', true],
  ['mailbox_full', 'Dropped: mailbox full', 'a reactor was overloaded', true],
  ['messages_invalid', 'Invalid', 'no JSON, or a field is missing', true],
  ['reads_paused', 'Reads paused', 'a client does not read its own replies', true],
];

const deliveryRows = new Rows($('delivery'), ([name, title, about, fault]) => {
  const [total, speed] = [el('td', { class: 'number' }), el('td', { class: 'number' })];
  const node = el('tr', {}, el('th', { scope: 'row' }, title, el('span', { class: 'sub' }, about)), total, speed);
  return {
    node,
    update() {
      say(total, compact(overview.counters[name]));
      say(speed, rate(perSecond(name)));
      attribute(total, 'class', fault && overview.counters[name] > 0 ? 'number warn' : 'number');
    },
  };
});

const owedRow = (() => {
  const [total, none] = [el('td', { class: 'number' }), el('td', { class: 'number' }, NOTHING)];
  const about = el('span', { class: 'sub' }, 'bytes that wait for slow readers');
  return { node: el('tr', {}, el('th', { scope: 'row' }, 'Owed to clients now', about), total, none), total };
})();

function drawDelivery() {
  deliveryRows.show(DELIVERY, ([name]) => name);
  if (!owedRow.node.isConnected) $('delivery').append(owedRow.node);
  say(owedRow.total, bytes(overview.outbound_bytes));
}

/** Names and values; a value is a text or a node. */
const pairs = (list) => new Rows(list, ([name]) => {
  const value = el('dd');
  return {
    node: el('div', {}, el('dt', {}, name), value),
    update([, text]) {
      if (!(text instanceof Node)) say(value, text);
      else if (value.firstChild !== text) value.replaceChildren(text);
    },
  };
});
const identityRows = pairs($('identity'));
let labels = { of: null, node: null };

function drawIdentity() {
  const identity = overview.identity;
  const place = [identity.environment, identity.hostname !== identity.pod_name ? identity.hostname : null, identity.container_ip];
  const pod = [identity.namespace, identity.pod_name].filter(Boolean).join('/');
  const rows = [
    ['Service', overview.service], ['Name', identity.display_name], ['Node', overview.node_id], ['Address', overview.address],
    ['Instance', identity.instance_id], ['Runs on', place.filter(Boolean).join(' · ')],
    pod ? ['Pod', identity.node_name ? `${pod} on ${identity.node_name}` : pod] : null,
    ['Version', overview.version], ['Started', date(when(identity.started_at))],
  ].filter(Boolean);
  const pairs = Object.entries(identity.labels ?? {}).map(([name, value]) => `${name}=${value}`);
  if (labels.of !== pairs.join()) {
    labels = { of: pairs.join(), node: el('ul', { class: 'labels' }, ...pairs.map((pair) => el('li', {}, pair))) };
  }
  if (pairs.length) rows.push(['Labels', labels.node]);
  identityRows.show(rows, ([name]) => name);
}

function drawDrain() {
  const { phase: at, drain_ms: took, connections, counters } = overview;
  const words = {
    serving: `Not draining; the node ${overview.ready ? 'is ready for more clients' : 'is not ready'}.`,
    lame_duck: `The node is about to leave: it serves everybody, but is no longer ready for more. ${span(took)} so far.`,
    closing: `Clients are told and closed, spread over the window: ${compact(connections)} are left after ${span(took)}; ${compact(counters.shutdown_notices)} were told.`,
    aborting: `Time is up: the last ${compact(connections)} are cut off.`,
    drained: `Drained in ${span(took)}.`,
  };
  say($('drain'), words[at] ?? phaseOf(at)[0]);
}

const reactorRows = new Rows($('reactors'), ([index]) => {
  const fill = el('span');
  const connections = el('span');
  const load = el('td', { class: 'load' }, connections, el('span', { class: 'bar', 'aria-hidden': 'true' }, fill));
  const [sockets, owed, mailbox] = [0, 1, 2].map(() => el('td', { class: 'number' }));
  return {
    node: el('tr', {}, el('th', { scope: 'row' }, String(index)), load, sockets, owed, mailbox),
    update([, reactor]) {
      const part = overview.connections ? reactor.connections / overview.connections : 0;
      say(connections, `${compact(reactor.connections)} · ${Math.round(part * 100)} %`);
      fill.style.transform = `scaleX(${Math.min(1, part).toFixed(3)})`;
      say(sockets, compact(reactor.sockets));
      say(owed, bytes(reactor.outbound_bytes));
      say(mailbox, compact(reactor.mailbox));
    },
  };
});

function drawReactors() {
  say($('reactors-count'), count(overview.reactors.length));
  reactorRows.show([...overview.reactors.entries()], ([index]) => index);
}

const closedRows = new Rows($('closed'), ([reason]) => {
  const [total, share] = [el('td', { class: 'number' }), el('td', { class: 'number' })];
  return {
    node: el('tr', {}, el('th', { scope: 'row' }, reason.replaceAll('_', ' ')), total, share),
    update([, ended, all]) {
      say(total, compact(ended));
      say(share, `${((ended / all) * 100).toFixed(ended / all < 0.1 ? 1 : 0)} %`);
    },
  };
});

function drawClosed() {
  const reasons = Object.entries(overview.closed).sort(([, one], [, other]) => other - one);
  const all = reasons.reduce((sum, [, ended]) => sum + ended, 0);
  $('no-closed').hidden = reasons.length > 0;
  $('closed-body').hidden = reasons.length === 0;
  say($('closed-count'), all ? compact(all) : '');
  closedRows.show(reasons.map(([reason, ended]) => [reason, ended, all]), ([reason]) => reason);
}

const LINKS = { ready: ['ready', 'good'], joining: ['joining', 'busy'], down: ['not joined, the log says why', 'bad'] };
const clusterRows = pairs($('cluster-figures'));
const nodeRows = new Rows($('nodes'), () => {
  const [id, here] = [el('span'), el('span', { class: 'muted' }, ' (this one)')];
  const state = el('span', { class: 'state' });
  const shown = new State(state);
  const [address, connections, fill] = [el('td', { class: 'mono' }), el('span'), el('span')];
  const load = el('td', { class: 'load' }, connections, el('span', { class: 'bar', 'aria-hidden': 'true' }, fill));
  return {
    node: el('tr', {}, el('th', { scope: 'row' }, id, here), el('td', {}, state), address, load),
    update(node) {
      say(id, node.id);
      here.hidden = node.id !== overview.node_id;
      shown.show(node.status, node.status === 'active' ? 'good' : 'warn');
      say(address, node.ip_address.includes(':') ? `[${node.ip_address}]:${node.port}` : `${node.ip_address}:${node.port}`);
      say(connections, compact(node.connections));
      const most = Math.max(1, ...overview.nodes.map((one) => one.connections));
      fill.style.transform = `scaleX(${(node.connections / most).toFixed(3)})`;
    },
  };
});

function drawCluster() {
  const { cluster, counters, nodes } = overview;
  const alone = cluster === null;
  $('no-cluster').hidden = !alone;
  $('cluster-body').hidden = alone;
  $('cluster-state').hidden = alone;
  if (alone) return;
  clusterState.show(...(LINKS[cluster] ?? [cluster, 'idle']));
  clusterRows.show([
    ['Nodes', count(nodes.length)],
    ['Batches sent', `${compact(counters.cluster_batches_sent)} · ${rate(perSecond('cluster_batches_sent'))}/s`],
    ['Batches heard', `${compact(counters.cluster_batches_received)} · ${rate(perSecond('cluster_batches_received'))}/s`],
    ['Gaps asked for', compact(counters.cluster_gaps)],
    ['Lost for good', compact(counters.cluster_lost)],
    ['Link broken', plural(counters.cluster_link_losses, 'time')],
  ], ([name]) => name);
  nodeRows.show(nodes, (node) => node.id);
}

// ---- start ----

startTheme();
say($('how'), `throng client --url ${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws --user-id alice

curl -d '{"message":"hello"}' ${location.origin}/api/broadcast`);
link.tryNow();
