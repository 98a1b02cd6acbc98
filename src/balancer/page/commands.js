// What an operator may do: drain a backend, enable it. The balancer is asked with the admin token.

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
