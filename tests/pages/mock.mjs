// A balancer that is made up: it speaks the HTTP API of `throng balance` and serves its page, and does what it is told.
// Tests hold it in their own process; `node tests/pages/mock.mjs [--port N] [--empty]` runs it to be looked at.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const source = (path) => readFileSync(new URL(`../../src/${path}`, import.meta.url), 'utf8');

/** The page and its policy, put together as src/page.rs does. */
export function assemble(markup, styles, scripts) {
  const style = styles.map(source).join('');
  const script = `(() => {\n'use strict';\n${scripts.map(source).join('')}})();\n`;
  const hash = (text) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  const html = source(markup).replace('<style></style>', () => `<style>${style}</style>`)
    .replace('<script></script>', () => `<script>${script}</script>`);
  const policy = `default-src 'none'; style-src ${hash(style)}; script-src ${hash(script)}; connect-src 'self'; `
    + "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    + "require-trusted-types-for 'script'; trusted-types 'none'";
  return { html, policy };
}

const PAGES = {
  '/web-loadbalancer.html': () => assemble('balancer/page.html', ['page/theme.css', 'balancer/page.css'],
    ['page/common.js', 'page/chart.js', ...['backends', 'events', 'commands', 'clients'].map((name) => `balancer/page/${name}.js`), 'balancer/page.js']),
  '/dashboard': () => assemble('admin/dashboard.html', ['page/theme.css', 'admin/dashboard.css'],
    ['page/common.js', 'page/chart.js', 'admin/dashboard.js']),
};

const iso = (ms = Date.now()) => new Date(ms).toISOString();

export class Mock {
  constructor({ token = null, tickMs = 1000 } = {}) {
    Object.assign(this, { token, tickMs, backends: [], clients: [], events: [], history: [], streams: new Set() });
    Object.assign(this, { made: 0, accepted: 0, refused: 0, queued: 0, phase: 'serving', overview: null, requests: [] });
    this.rates = { new: 0, down: 0, up: 0 };
  }

  async start(port = 0) {
    this.server = createServer((request, response) => this.answer(request, response));
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.port = this.server.address().port;
    this.timer = setInterval(() => this.tick(), this.tickMs);
    return this;
  }

  /** As if it were killed. */
  async stop() {
    clearInterval(this.timer);
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
    this.streams.clear();
  }

  // ---- what tests change ----

  addBackend(name, more = {}) {
    const id = `b${(this.made += 1)}`;
    const backend = {
      id, name, address: name, origin: 'flag', weight: 1, max_connections: null, state: 'up', drained: false,
      why: '2 checks passed', since: iso(), connections: 0, total: 0, failures: 0, bytes_to_backend: 0, bytes_to_clients: 0,
      last_check: { at: iso(), ok: true, status: 200, latency_ms: 0.81, error: null }, ...more,
    };
    this.backends.push(backend);
    return backend;
  }

  addClient(id, backend, more = {}) {
    const client = {
      id, generated: false, connection: `${this.clients.length % 2}-${this.clients.length}-1`, user_id: id, name: null,
      address: `127.0.0.1:${40_000 + (this.clients.length % 20_000)}`, backend: backend.id, since: iso(), bytes_from_client: 0,
      bytes_to_client: 0, ...more,
    };
    this.clients.push(client);
    backend.connections += 1;
    backend.total += 1;
    this.accepted += 1;
    return client;
  }

  kill(backend, error = 'connect: Connection refused (os error 111)') {
    const clients = backend.connections;
    Object.assign(backend, { state: 'down', why: `3 checks failed: ${error}`, since: iso(), connections: 0 });
    backend.failures += 1;
    backend.last_check = { at: iso(), ok: false, status: null, latency_ms: 0.2, error };
    this.clients = this.clients.filter((client) => client.backend !== backend.id);
    this.say('backend_down', backend, `${backend.name} is down: ${error}`);
    this.say('failover', backend, `${clients} clients of ${backend.name} are sent elsewhere`, clients);
    this.tick();
  }

  say(kind, backend, text, clients = 0) {
    const event = { at: iso(), kind, backend: backend?.id ?? null, text, clients };
    this.events = [...this.events, event].slice(-100);
    this.send('event', event);
  }

  // ---- the stream ----

  snapshot() {
    const connections = this.backends.reduce((sum, backend) => sum + backend.connections, 0);
    return {
      at: iso(), phase: this.phase, strategy: 'least_connections', connections, queued: this.queued, accepted: this.accepted,
      refused: this.refused, bytes_per_second: { to_backends: this.rates.up, to_clients: this.rates.down },
      new_per_second: this.rates.new, backends: this.backends,
    };
  }

  tick() {
    this.live?.();
    const snapshot = this.snapshot();
    this.history = [...this.history, [Date.now(), snapshot.connections]].slice(-300);
    this.send('snapshot', snapshot);
  }

  send(name, value) {
    for (const stream of this.streams) stream.write(`event: ${name}\ndata: ${JSON.stringify(value)}\n\n`);
  }

  // ---- HTTP ----

  answer(request, response) {
    const url = new URL(request.url, 'http://mock');
    this.requests.push({ method: request.method, path: url.pathname, search: url.search, authorization: request.headers.authorization });
    const json = (status, body) => {
      response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
      response.end(JSON.stringify(body));
    };
    if (PAGES[url.pathname]) {
      const { html, policy } = PAGES[url.pathname]();
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': policy, 'cache-control': 'no-store' });
      response.end(html);
    } else if (url.pathname === '/api/events') this.open(response);
    else if (url.pathname === '/api/clients') this.list(url.searchParams, json);
    else if (url.pathname === '/api/overview' && this.overview) json(200, this.overview());
    else if (request.method === 'POST') this.command(request, url.pathname, json);
    else json(404, { error: 'no such path', status: 404 });
  }

  open(response) {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write(`event: history\ndata: ${JSON.stringify({ connections: this.history, events: this.events })}\n\n`);
    response.write(`event: snapshot\ndata: ${JSON.stringify(this.snapshot())}\n\n`);
    this.streams.add(response);
    response.on('close', () => this.streams.delete(response));
  }

  list(parameters, json) {
    const q = (parameters.get('q') ?? '').toLowerCase();
    const of = parameters.get('backend');
    const limit = Number(parameters.get('limit') ?? 100);
    const found = this.clients.filter((client) => (!of || client.backend === of)
      && [client.id, client.user_id, client.name, client.address].some((text) => text?.toLowerCase().includes(q)));
    const after = parameters.get('after');
    const start = after ? Number(after) : 0;
    const next = start + limit < found.length ? String(start + limit) : null;
    json(200, { clients: found.slice(start, start + limit), next, total: found.length });
  }

  command(request, path, json) {
    const refuse = (status, error) => json(status, { error, status });
    if (this.token === null) {
      return refuse(403, 'browsers may not do this until THRONG_ADMIN_TOKEN or --admin-token-file is set');
    }
    const bearer = request.headers.authorization?.replace(/^Bearer /, '');
    if (bearer === undefined) return refuse(401, 'Authorization: Bearer with the admin token is required');
    if (bearer !== this.token) return refuse(401, 'the admin token is wrong');
    const [, id, verb] = /^\/api\/backends\/(\w+)\/(drain|enable)$/.exec(path) ?? [];
    const backend = this.backends.find((one) => one.id === id);
    if (!backend) return refuse(404, 'no such backend');
    const draining = verb === 'drain';
    Object.assign(backend, {
      drained: draining, state: draining ? 'draining' : 'up', since: iso(), why: draining ? 'drained by an operator' : 'enabled by an operator',
    });
    this.say(draining ? 'backend_draining' : 'backend_enabled', backend, `${backend.name} ${draining ? 'is drained' : 'is enabled'} by an operator`);
    this.tick();
    return json(200, backend);
  }
}

/** Fills a mock with what looks like a busy day. */
export function lively(mock, { clients = 1284 } = {}) {
  const specs = [
    ['node-1:8080', { address: '10.0.3.11:8080' }], ['node-2:8080', { address: '10.0.3.12:8080', weight: 2 }],
    ['node-3:8080', { address: '10.0.3.13:8080', max_connections: 400 }],
    ['node-4:8080', { address: '10.0.3.14:8080', origin: 'dns', state: 'slow_start', why: '2 checks passed; weight rises for 10 s' }],
    ['node-5:8080', { address: '10.0.3.15:8080', origin: 'api', state: 'draining', drained: true, why: 'drained by an operator' }],
    ['node-6:8080', { address: '10.0.3.16:8080', origin: 'file', state: 'down', why: '3 checks failed: connect: Connection refused (os error 111)', failures: 14 }],
  ];
  for (const [name, more] of specs) mock.addBackend(name, { since: iso(Date.now() - 3.7e6), ...more });
  const down = mock.backends[5];
  down.last_check = { at: iso(), ok: false, status: null, latency_ms: 0.2, error: 'connect: Connection refused (os error 111)' };
  const open = [0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4].map((i) => mock.backends[i]);
  const namesOf = ['alice', 'bruno', 'chiara', 'dmitri', 'eleni', 'farid', 'greta', 'hiro'];
  for (let i = 0; i < clients; i += 1) {
    const generated = i % 7 === 3;
    const id = generated ? `c-${(i * 2654435761 >>> 0).toString(16)}` : `${namesOf[i % 8]}-${i}`;
    mock.addClient(id, open[i % open.length], {
      generated, user_id: generated ? null : id, name: i % 5 === 0 ? `${namesOf[(i + 3) % 8]}’s phone` : null,
      address: `203.0.113.${i % 250}:${30_000 + i}`, since: iso(Date.now() - (i * 7919) % 9_000_000),
      bytes_from_client: (i * 7919) % 90_000, bytes_to_client: (i * 104_729) % 9_000_000,
    });
  }
  const total = clients;
  const begin = Date.now() - 300_000;
  for (let i = 0; i < 300; i += 1) {
    mock.history.push([begin + i * 1000, Math.round(total * (0.72 + 0.28 * (i / 300)) + 40 * Math.sin(i / 17) * (1 - i / 300) - (i > 180 && i < 200 ? 150 : 0))]);
  }
  const past = (seconds, kind, at, text, count = 0) => mock.events.push({
    at: iso(Date.now() - seconds * 1000), kind, backend: mock.backends[at]?.id ?? null, text, clients: count,
  });
  past(3600, 'file_changed', -1, 'backends.txt was read again: 6 backends, 1 added');
  past(290, 'backend_up', 1, 'node-2:8080 is up: 2 checks passed');
  past(118, 'backend_down', 5, 'node-6:8080 is down: connect: Connection refused (os error 111)');
  past(118, 'failover', 5, '212 clients of node-6:8080 are sent elsewhere', 212);
  past(61, 'backend_draining', 4, 'node-5:8080 is drained by an operator');
  past(8, 'backend_added', 3, 'node-4:8080 was found in DNS');
  past(6, 'backend_up', 3, 'node-4:8080 is up; its weight rises over 10 s');
  let turn = 0;
  mock.live = () => {
    turn += 1;
    for (const backend of mock.backends) {
      if (backend.state === 'down') {
        backend.last_check.at = iso();
        backend.failures += 1;
        continue;
      }
      const change = Math.round(3 * Math.sin(turn / 5 + backend.id.charCodeAt(1)) + (backend.state === 'slow_start' ? 4 : 0) - (backend.drained ? 2 : 0));
      backend.connections = Math.max(0, Math.min(backend.max_connections ?? 1e9, backend.connections + change));
      backend.total += Math.max(0, change) + 2;
      backend.bytes_to_clients += 210_000 + 1000 * backend.connections;
      backend.bytes_to_backend += 42_000 + 200 * backend.connections;
      backend.last_check = { at: iso(), ok: true, status: 200, latency_ms: 0.6 + 0.4 * Math.abs(Math.sin(turn + backend.connections)), error: null };
    }
    mock.accepted += 9;
    mock.rates = { new: 9 + (turn % 4), down: 5.2e6 + 4e5 * Math.sin(turn), up: 6.1e5 + 3e4 * Math.cos(turn) };
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const port = Number(process.argv[process.argv.indexOf('--port') + 1] || 0);
  const mock = new Mock({ token: 'secret' });
  if (!process.argv.includes('--empty')) lively(mock);
  await mock.start(process.argv.includes('--port') ? port : 0);
  console.log(`http://127.0.0.1:${mock.port}/web-loadbalancer.html`);
}
