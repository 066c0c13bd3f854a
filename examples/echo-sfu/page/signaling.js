// The HTTP side of the SFU: offers in, answers out, and who is in a room.

import { responseProblem, serverUnreachable } from './problems.js';

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: 'no-store', ...options });
  } catch (error) {
    throw serverUnreachable(error);
  }
  return response;
}

async function refusal(response) {
  const text = (await response.text().catch(() => '')).trim().slice(0, 300);
  return responseProblem(response.status, text, retryAfterSeconds(response));
}

/** Retry-After is a number of seconds or a date. */
function retryAfterSeconds(response) {
  const value = response.headers.get('Retry-After');
  if (!value) return 0;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : 0;
}

/**
 * Posts an offer to /echo, /whip/… or /whep/….
 * @returns {Promise<{sdp: string, session: string|null, publisherId: string|null}>}
 *   `session` is the address whose DELETE ends the session.
 */
export async function postOffer(path, sdp) {
  const response = await request(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp' },
    body: sdp,
  });
  if (!response.ok) throw await refusal(response);
  const location = response.headers.get('Location');
  return {
    sdp: await response.text(),
    session: location ? new URL(location, response.url).href : null,
    publisherId: response.headers.get('Publisher-Id'),
  };
}

/** Ends a session; outlives the page (keepalive), and needs no reply: an unreachable server ends it by itself. */
export function endSession(session) {
  fetch(session, { method: 'DELETE', keepalive: true }).catch(() => {});
}

/** Who publishes in a room. A room nobody publishes in is an empty one. */
export async function readRoom(room) {
  const response = await request(`/rooms/${encodeURIComponent(room)}`);
  if (response.status === 404) return { room, publishers: [], viewers: 0 };
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** The server's counters. */
export async function readServerStats() {
  const response = await request('/stats');
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** Whether the server answers HTTP at all, whatever it says. */
export async function serverAnswers() {
  const giveUp = AbortSignal.timeout(4000);
  return fetch('/stats', { cache: 'no-store', signal: giveUp }).then(() => true, () => false);
}

export function echoPath() {
  return '/echo';
}

export function publishPath(room, name) {
  const query = name ? `?name=${encodeURIComponent(name)}` : '';
  return `/whip/${encodeURIComponent(room)}${query}`;
}

export function viewPath(room, publisher) {
  return `/whep/${encodeURIComponent(room)}/${encodeURIComponent(publisher)}`;
}
