// Asks a node to end the connections of a user.

export async function postKick(url, user) {
  const body = JSON.stringify({ user_id: user, reason: 'enough', notify: true, message: 'bye' });
  const headers = { 'Content-Type': 'application/json' };
  const response = await fetch(`${url}/api/kick`, { method: 'POST', headers, body });
  if (!response.ok) throw new Error(`kick was answered ${response.status} ${await response.text()}`);
  return response.json();
}
