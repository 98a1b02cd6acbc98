// The list of what happened.

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
