// What all pages share: building the document, writing numbers, the theme, announcements, and the honest state of the
// connection to whoever the figures come from. Text that others wrote only ever becomes textContent.

const SVG = 'http://www.w3.org/2000/svg';
const $ = (id) => document.getElementById(id);

function adorn(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const el = (tag, attributes = {}, ...children) => adorn(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => adorn(document.createElementNS(SVG, tag), attributes, children);

/** Sets a text only if it is another one, so that selections and assistive technology are left alone. */
function say(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

function attribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** Children of `parent` that stand for items and are kept as long as their item is there. */
class Rows {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make; // (item) => { node, update(item) }
    this.byKey = new Map();
  }

  show(items, key) {
    const gone = new Set(this.byKey.keys());
    let place = this.parent.firstElementChild;
    for (const item of items) {
      const id = key(item);
      gone.delete(id);
      let row = this.byKey.get(id);
      if (!row) this.byKey.set(id, (row = this.make(item)));
      row.update(item);
      if (row.node === place) place = place.nextElementSibling;
      else this.parent.insertBefore(row.node, place);
    }
    for (const id of gone) {
      this.byKey.get(id).node.remove();
      this.byKey.delete(id);
    }
  }
}

// ---- numbers and times ----

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const clockFormat = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dateFormat = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
const NOTHING = '–';

const known = (value) => typeof value === 'number' && Number.isFinite(value);
const count = (value) => (known(value) ? whole.format(value) : NOTHING);
const compact = (value) => (!known(value) ? NOTHING : value < 100_000 ? whole.format(value) : short.format(value));
const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

function rate(value) {
  if (!known(value)) return NOTHING;
  return value > 0 && value < 9.95 ? value.toFixed(1) : compact(value);
}

function bytes(value) {
  if (!known(value)) return NOTHING;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  while (value >= 1023.95 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit > 0 && value < 99.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

function span(ms) {
  if (!known(ms)) return NOTHING;
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (n) => String(n).padStart(2, '0');
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

function milliseconds(value) {
  if (!known(value)) return NOTHING;
  return `${value.toFixed(value < 1 ? 2 : value < 100 ? 1 : 0)} ms`;
}

const clock = (ms) => (known(ms) ? clockFormat.format(ms) : NOTHING);
const date = (ms) => (known(ms) ? dateFormat.format(ms) : NOTHING);
const when = (text) => (typeof text === 'string' ? Date.parse(text) : NaN);

// ---- states ----

const SHAPES = {
  good: 'M8 1.2a6.8 6.8 0 1 0 0 13.6A6.8 6.8 0 0 0 8 1.2Zm3.9 5L7.2 11 4.2 8.1l1.1-1.2 1.9 1.8 3.5-3.7Z',
  busy: 'M8 1.2a6.8 6.8 0 1 0 0 13.6A6.8 6.8 0 0 0 8 1.2Zm0 1.6v10.4A5.2 5.2 0 0 1 8 2.8Z',
  idle: 'M8 1.2a6.8 6.8 0 1 0 0 13.6A6.8 6.8 0 0 0 8 1.2Zm0 1.6a5.2 5.2 0 1 1 0 10.4A5.2 5.2 0 0 1 8 2.8Z',
  warn: 'M8 1.2a6.8 6.8 0 1 0 0 13.6A6.8 6.8 0 0 0 8 1.2Zm.9 3v4.6l1.8-1.8 1.1 1.2L8 12 4.2 8.2 5.3 7l1.8 1.8V4.2Z',
  alarm: 'M8 1 15.5 14.5H.5ZM7.2 5.8v4.4h1.6V5.8Zm0 5.4v1.6h1.6v-1.6Z',
  bad: 'M8 1.2a6.8 6.8 0 1 0 0 13.6A6.8 6.8 0 0 0 8 1.2ZM5.6 4.5 8 6.9l2.4-2.4 1.1 1.1L9.1 8l2.4 2.4-1.1 1.1L8 9.1l-2.4 2.4-1.1-1.1L6.9 8 4.5 5.6Z',
};

/** A shape beside a word. `tone` names the colour, `shape` the shape if it is another. */
class State {
  constructor(node) {
    this.node = node;
    this.path = svg('path', { 'fill-rule': 'evenodd', fill: 'currentColor' });
    this.text = el('span');
    node.replaceChildren(svg('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true' }, this.path), this.text);
  }

  show(text, tone, shape = tone) {
    say(this.text, text);
    attribute(this.path, 'd', SHAPES[shape]);
    for (const name of ['good', 'busy', 'warn', 'bad', 'idle']) this.node.classList.toggle(name, name === tone);
  }
}

/** Where a program is in its life. */
const PHASES = {
  serving: ['serving', 'good'],
  lame_duck: ['lame duck', 'warn'],
  closing: ['closing', 'warn'],
  aborting: ['aborting', 'bad'],
  drained: ['drained', 'idle'],
};
const phaseOf = (phase) => PHASES[phase] ?? [String(phase ?? NOTHING), 'idle'];

// ---- theme ----

/** Storage may be forbidden; then nothing is remembered. */
function remember(storage, key, value) {
  try {
    if (value === undefined) return window[storage].getItem(key);
    if (value === null) window[storage].removeItem(key);
    else window[storage].setItem(key, value);
  } catch { /* not remembered */ }
  return null;
}

const THEMES = {
  auto: ['Theme: as the system', 'M8 1.2a6.8 6.8 0 1 0 0 13.6A6.8 6.8 0 0 0 8 1.2Zm0 1.6v10.4A5.2 5.2 0 0 1 8 2.8Z'],
  light: ['Theme: light', 'M8 4.8a3.2 3.2 0 1 0 0 6.4 3.2 3.2 0 0 0 0-6.4ZM7.3.8h1.4v2.4H7.3Zm0 12h1.4v2.4H7.3ZM.8 7.3h2.4v1.4H.8Zm12 0h2.4v1.4h-2.4ZM2.4 3.4l1-1 1.7 1.7-1 1Zm8.5 8.5 1-1 1.7 1.7-1 1Zm-8.5.7 1.7-1.7 1 1-1.7 1.7Zm8.5-8.5 1.7-1.7 1 1-1.7 1.7Z'],
  dark: ['Theme: dark', 'M6.2 1.5a6.6 6.6 0 1 0 8.3 8.3A5.6 5.6 0 0 1 6.2 1.5Z'],
};

function startTheme() {
  const button = $('theme');
  const path = svg('path', { fill: 'currentColor', 'fill-rule': 'evenodd' });
  button.replaceChildren(svg('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true' }, path));
  const names = Object.keys(THEMES);
  let theme = names.includes(remember('localStorage', 'throng-theme')) ? remember('localStorage', 'throng-theme') : 'auto';
  const apply = () => {
    attribute(document.documentElement, 'data-theme', theme === 'auto' ? null : theme);
    attribute(path, 'd', THEMES[theme][1]);
    const next = names[(names.indexOf(theme) + 1) % names.length];
    attribute(button, 'aria-label', `${THEMES[theme][0]}. Change to ${next === 'auto' ? 'the system’s' : next}`);
    attribute(button, 'title', THEMES[theme][0]);
  };
  button.addEventListener('click', () => {
    theme = names[(names.indexOf(theme) + 1) % names.length];
    remember('localStorage', 'throng-theme', theme === 'auto' ? null : theme);
    apply();
  });
  apply();
}

// ---- announcements ----

/** Tells screen readers what happened, without drowning them: what comes together is said together. */
const announcer = {
  waiting: [],
  timer: 0,
  say(text) {
    this.waiting.push(text);
    if (!this.timer) this.timer = setTimeout(() => this.flush(), 700);
  },
  flush() {
    const [all, last] = [this.waiting.length, this.waiting.slice(-3)];
    $('announcer').textContent = all > 3 ? `${all} events, the last: ${last.join('. ')}` : last.join('. ');
    this.waiting = [];
    this.timer = 0;
  },
};

// ---- the connection that the figures come through ----

const RETRY_FIRST_MS = 1000;
const RETRY_MAX_MS = 15_000;

/** Says whether the figures are of now, since when they are not, and when it is tried again. Tries again by itself. */
class Link {
  /** `open()` begins an attempt, `close()` ends what is open, `changed()` hears that the figures became old or fresh.
   * After `silenceMs` without a sign of life it is lost. */
  constructor({ peer, silenceMs, open, close, changed, back }) {
    Object.assign(this, { peer, silenceMs, open, close, changed, back });
    this.pill = new State($('link'));
    this.state = 'connecting';
    this.seenAt = null; // when the figures shown came
    this.lostAt = null;
    this.attempts = 0;
    this.retryAt = 0;
    $('retry').addEventListener('click', () => this.tryNow());
    addEventListener('online', () => this.state === 'lost' && this.tryNow());
    setInterval(() => this.tick(), 500);
    this.show();
  }

  tryNow() {
    this.close();
    this.state = this.lostAt === null ? 'connecting' : 'trying';
    this.openedAt = performance.now();
    this.open();
    this.show();
  }

  /** Fresh figures came. */
  live() {
    const away = this.lostAt === null ? null : Date.now() - this.lostAt;
    this.seenAt = Date.now();
    this.aliveAt = performance.now();
    this.attempts = 0;
    this.lostAt = null;
    if (this.state !== 'live') {
      this.state = 'live';
      this.show();
    }
    if (away !== null) {
      announcer.say(`Connected to ${this.peer} again after ${span(away)}`);
      this.back?.(away);
    }
  }

  lost(why) {
    this.close();
    if (this.lostAt === null) {
      this.lostAt = this.seenAt ?? Date.now();
      announcer.say(`The connection to ${this.peer} is lost; the figures are old`);
    }
    this.why = why;
    this.attempts += 1;
    const longest = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(this.attempts - 1, 10));
    // Many pages may have lost the same balancer: they are not to come back all at once.
    this.retryAt = performance.now() + longest * (0.6 + 0.4 * Math.random());
    this.state = 'lost';
    this.show();
  }

  /** Nothing is asked for while nobody looks. */
  pause() {
    this.close();
    this.state = 'paused';
    this.show();
  }

  tick() {
    const now = performance.now();
    if (this.state === 'live' && now - this.aliveAt > this.silenceMs) this.lost('nothing was heard from it');
    else if ((this.state === 'connecting' || this.state === 'trying') && now - this.openedAt > this.silenceMs) {
      this.lost('it does not answer');
    } else if (this.state === 'lost' && now >= this.retryAt) this.tryNow();
    if (this.state !== 'live') this.show();
  }

  show() {
    const looks = {
      connecting: ['Connecting', 'idle'], live: ['Live', 'good'], paused: ['Paused', 'idle'],
      lost: ['Lost', 'bad'], trying: ['Trying', 'bad'],
    };
    this.pill.show(...looks[this.state]);
    const lost = this.lostAt !== null && this.state !== 'paused';
    const stale = this.state !== 'live';
    if (document.body.classList.contains('stale') !== stale) {
      document.body.classList.toggle('stale', stale);
      this.changed?.();
    }
    $('lost').hidden = !lost;
    if (lost) this.showLoss();
  }

  showLoss() {
    const age = this.seenAt === null ? null : Date.now() - this.seenAt;
    say($('lost-what'), this.seenAt === null ? `No answer from ${this.peer}.` : `The connection to ${this.peer} is lost.`);
    say($('lost-since'), age === null
      ? `Nothing could be had since ${clock(this.lostAt)}: ${this.why}.`
      : `The figures are as of ${clock(this.seenAt)}, ${span(age)} ago: ${this.why}.`);
    const left = Math.max(1, Math.ceil((this.retryAt - performance.now()) / 1000));
    say($('lost-next'), this.state === 'trying'
      ? `Trying again now, for the ${ordinal(this.attempts)} time.`
      : `Trying again in ${left} s.`);
  }
}

function ordinal(n) {
  const ending = n % 100 >= 11 && n % 100 <= 13 ? 'th' : ['th', 'st', 'nd', 'rd'][n % 10] ?? 'th';
  return `${n}${ending}`;
}
