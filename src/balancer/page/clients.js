// The table of clients: searched and paged by the balancer, asked for again and again without losing the place.

const CLIENTS_PER_PAGE = 25;
const CLIENTS_EVERY_MS = 4000;

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
  if (document.hidden || link.state !== 'live') return; // it is asked again when that changes
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
