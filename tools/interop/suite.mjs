// What a client sees of a node, checked through the WebSocket interface of browsers, which `ws` offers too. The
// Python side of this file is suite.py. It runs in Node.js and, as it is, in a page: it names neither.

const MILLISECONDS = 10_000; // that anything may take
const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;

function assert(condition, what) {
  if (!condition) throw new Error(typeof what === 'string' ? what : JSON.stringify(what));
}

function equal(found, expected) {
  const [one, other] = [JSON.stringify(found), JSON.stringify(expected)];
  assert(one === other, `expected ${other.slice(0, 200)}, found ${String(one).slice(0, 200)}`);
}

function within(promise, milliseconds) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('timed out')), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A WebSocket whose messages are awaited one by one. The end is `{ code, reason, clean }`. */
class Connection {
  constructor(socket) {
    this.socket = socket;
    this.arrived = [];
    this.waiting = [];
    socket.binaryType = 'arraybuffer';
    const put = (item) => (this.waiting.length ? this.waiting.shift()(item) : this.arrived.push(item));
    socket.onmessage = (event) => put(event.data);
    this.ended = new Promise((resolve) => {
      socket.onclose = (event) => {
        const end = { code: event.code, reason: event.reason, clean: event.wasClean };
        put(end);
        resolve(end);
      };
    });
  }

  receive() {
    if (this.arrived.length) return Promise.resolve(this.arrived.shift());
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  async close() {
    if (this.socket.readyState === 3) return;
    this.socket.close(1000);
    const { code, clean } = await within(this.ended, MILLISECONDS);
    assert(clean && code === 1000, `the closing handshake ended with ${code}, clean ${clean}`);
  }
}

export class Suite {
  /** `kick` posts to the HTTP API (a page must not), `listening` says that a message is awaited. */
  constructor({ WebSocket, url, kick, listening, report }) {
    Object.assign(this, { WebSocket, kick, listening, report, connections: [] });
    this.ws = url.replace('http', 'ws');
  }

  open(path, protocols = []) {
    const socket = new this.WebSocket(this.ws + path, protocols);
    const connection = new Connection(socket);
    this.connections.push(connection);
    return new Promise((resolve, reject) => {
      socket.onopen = () => resolve(connection);
      socket.onerror = (event) => reject(new Error(event.message || 'the connection failed'));
    });
  }

  async receive(connection, type) {
    const message = await connection.receive();
    assert(typeof message === 'string', `expected a ${type} message, found ${JSON.stringify(message)}`);
    const value = JSON.parse(message);
    equal(value.type, type);
    return value;
  }

  async join(user) {
    const connection = await this.open(`/ws?user_id=${user}`);
    await this.receive(connection, 'welcome');
    return connection;
  }

  send(connection, value) {
    connection.socket.send(JSON.stringify(value));
  }

  async echoed(connection, payload) {
    connection.socket.send(payload);
    const back = await connection.receive();
    if (typeof payload === 'string') return assert(back === payload, 'the text came back changed');
    assert(back instanceof ArrayBuffer, `expected bytes, found ${JSON.stringify(back)}`);
    const bytes = new Uint8Array(back);
    const same = bytes.length === payload.length && bytes.every((byte, index) => byte === payload[index]);
    assert(same, 'the bytes came back changed');
  }

  checks = {
    welcome: async () => {
      const welcome = await this.receive(await this.open('/ws'), 'welcome');
      assert(welcome.message.startsWith('Connected to '), welcome);
      assert(welcome.message.endsWith(welcome.service_identity.display_name), welcome);
      assert(TIMESTAMP.test(welcome.timestamp), welcome);
      equal(welcome.client_ip, '127.0.0.1');
      assert(/^[0-9a-f]{8}$/.test(welcome.service_identity.instance_id), welcome);
    },
    'ping is answered with the whole message': async () => {
      const connection = await this.join('ping');
      const message = { type: 'ping', n: 1, nested: { list: [1, null, 'ü'] } };
      this.send(connection, message);
      const pong = await this.receive(connection, 'pong');
      equal(pong.original_data, message);
      assert(TIMESTAMP.test(pong.timestamp), pong);
    },
    'unknown JSON comes back as an echo': async () => {
      const connection = await this.join('unknown');
      for (const message of [{ type: 'weather', city: 'Zürich' }, [1, 2, 3], 'text']) {
        this.send(connection, message);
        equal((await this.receive(connection, 'echo')).original_data, message);
      }
    },
    'text that is not JSON is an error and the connection stays': async () => {
      const connection = await this.join('invalid');
      connection.socket.send('{not json');
      equal((await this.receive(connection, 'error')).message, 'Invalid JSON');
      this.send(connection, { type: 'ping' });
      await this.receive(connection, 'pong');
    },
    'binary comes back as it is': async () => {
      const connection = await this.join('binary');
      await this.echoed(connection, Uint8Array.from({ length: 1024 }, (_, index) => index));
    },
    '/echo is a raw echo without a welcome': async () => {
      const connection = await this.open('/echo');
      const noise = Uint8Array.from({ length: 200_000 }, () => Math.random() * 256);
      for (const payload of ['hello', '{"type":"ping"}', Uint8Array.of(0, 255), '', 'é'.repeat(40_000), noise]) {
        await this.echoed(connection, payload);
      }
    },
    'permessage-deflate is negotiated and carries a large message': async () => {
      const connection = await this.open('/echo');
      const { extensions } = connection.socket;
      assert(extensions.includes('permessage-deflate'), `extensions: ${extensions}`);
      for (const payload of ['throng '.repeat(30_000), new Uint8Array(200_000), 'short']) {
        await this.echoed(connection, payload);
      }
    },
    'send_message reaches every connection of the user': async () => {
      const [sender, one, two] = [await this.join('sender'), await this.join('target'), await this.join('target')];
      const content = { text: 'hi', n: [1.5, true] };
      this.send(sender, { type: 'send_message', target_user: 'target', content });
      for (const connection of [one, two]) {
        equal(await this.receive(connection, 'message'), { type: 'message', from: 'sender', content });
      }
    },
    'send_message to a user who is not there is answered': async () => {
      const sender = await this.join('lonely');
      this.send(sender, { type: 'send_message', target_user: 'nobody', content: 1 });
      equal((await this.receive(sender, 'error')).target_user, 'nobody');
    },
    'broadcast reaches everyone': async () => {
      const [sender, other] = [await this.join('caster'), await this.join('other')];
      this.send(sender, { type: 'broadcast', content: 'all' });
      for (const connection of [sender, other]) {
        const broadcast = { type: 'broadcast', from: 'caster', content: 'all' };
        equal(await this.receive(connection, 'broadcast'), broadcast);
      }
    },
    'kick closes with 4003 and the reason': async () => {
      const connection = await this.join('kicked');
      const result = await this.kick('kicked');
      equal(result.status, 'kicked');
      const { code, reason } = await connection.ended;
      equal([code, reason], [4003, 'enough']);
    },
    'a subprotocol both sides know is chosen': async () => {
      equal((await this.open('/ws', ['unheard-of', 'v2.throng'])).socket.protocol, 'v2.throng');
    },
  };

  required = {
    'a missing user_id closes with 4001': async () => {
      const { code, reason } = await (await this.open('/ws')).ended;
      equal([code, reason], [4001, 'Missing user_id']);
    },
    'a given user_id is welcome where one is required': () => this.join('somebody'),
  };

  async welcomedWith(token) {
    const connection = await this.open('/ws', ['throng.jwt', token]);
    equal(connection.socket.protocol, 'throng.jwt');
    await this.receive(connection, 'welcome');
    return connection;
  }

  tokens = {
    'tokens of PyJWT, one for each algorithm, say who it is and what it may do': async (tokens) => {
      for (const token of tokens.split(',').slice(0, 4)) {
        const connection = await this.welcomedWith(token);
        this.send(connection, { type: 'send_message', target_user: 'stranger', content: 7 });
        equal((await this.receive(connection, 'message')).from, 'stranger');
        this.send(connection, { type: 'broadcast', content: 7 });
        equal((await this.receive(connection, 'error')).message, 'Not permitted: broadcast');
        await connection.close();
      }
    },
    'a token that expires closes with 4010': async (tokens) => {
      const connection = await this.welcomedWith(tokens.split(',')[4]);
      const { code, reason } = await connection.ended;
      equal([code, reason], [4010, 'Token expired']);
    },
    'a token that has expired, and none, are refused': async (tokens) => {
      for (const subprotocols of [['throng.jwt', tokens.split(',')[5]], []]) {
        const letIn = await this.open('/ws', subprotocols).then(() => true, () => false);
        assert(!letIn, 'it was let in');
        this.connections.pop();
      }
    },
  };

  drain = {
    'the shutdown notice comes before close 1012': async () => {
      const connection = await this.join('drained');
      await this.listening();
      const notice = await this.receive(connection, 'shutdown');
      assert(typeof notice.reason === 'string' && notice.reason, notice);
      assert(Number.isInteger(notice.reconnect_after_ms) && notice.reconnect_after_ms >= 0, notice);
      assert(TIMESTAMP.test(notice.timestamp), notice);
      const end = await connection.receive();
      equal([end.code, end.clean], [1012, true]);
    },
  };

  listen = {
    'a message of another library arrives': async (user) => {
      const connection = await this.join(user);
      await this.listening();
      const message = await this.receive(connection, 'message');
      equal([message.from, message.content], [`to-${user}`, { for: user }]);
    },
  };

  send_one = {
    'a message for another library leaves': async (user) => {
      const connection = await this.join(`to-${user}`);
      this.send(connection, { type: 'send_message', target_user: user, content: { for: user } });
      this.send(connection, { type: 'ping' });
      await this.receive(connection, 'pong');
    },
  };

  /** Runs the checks of a mode; true if all were good. */
  async run(mode, user) {
    const group = { checks: this.checks, required: this.required, drain: this.drain, listen: this.listen,
      send: this.send_one, tokens: this.tokens }[mode];
    let good = true;
    for (const [name, check] of Object.entries(group)) {
      let why;
      try {
        await within(check(user), mode === 'drain' ? 3 * MILLISECONDS : MILLISECONDS);
      } catch (error) {
        why = String(error.message || error).slice(0, 500);
      }
      for (const connection of this.connections) {
        await connection.close().catch((error) => { why ??= error.message; });
      }
      this.connections = [];
      good &&= why === undefined;
      await this.report(why === undefined ? `ok ${name}` : `not ok ${name}: ${why}`);
    }
    return good;
  }
}
