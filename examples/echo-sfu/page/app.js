// The page of the SFU: puts the parts together, and shows tests what happens.
//
// For tests, `window.echoSfu` is a plain object that is kept up to date (once a second for numbers):
//   mode      "echo" | "room"                          the tab in front
//   status    "idle" | "starting" | "connecting" | "connected" | "reconnecting" | "failed"
//   error     null | {code, title, text, details}      what the error box says; codes: problems.js
//   echo      {status, connectionState, iceConnectionState, session, framesSent, framesDecoded,
//              bytesSent, bytesReceived, audioBytesReceived, sentFps, echoedFps, outKbps, backKbps,
//              outLossPercent, backLossPercent, rttMs, codec, audioCodec, width, height, pair,
//              muted, attempts}
//   room      {status, name, displayName, selfId, watchOnly,
//              publish: {connectionState, framesSent, bytesSent, kbps, rttMs, attempts},
//              peers: {[publisherId]: {id, name, status, connectionState, framesDecoded,
//              bytesReceived, audioBytesReceived, fps, kbps, lossPercent, rttMs, width, height,
//              attempts, error}}}                      peer status: connecting | connected |
//                                                      interrupted | waiting | failed
//
// Elements, each with id and data-testid of that name: start-button, stop-button, self-video,
// echo-video, echo-sound-button, error-box (data-code; with error-title, error-text, error-details,
// error-actions), room-input, name-input, watch-only, join-button, leave-button, mic-button,
// camera-button, settings-button, camera-select, microphone-select, codec-select, status, tab-echo,
// tab-room, share-link, copy-button, room-count, grid. In the grid only data-testid:
// "remote-tile" (with data-publisher-id and data-state, the peer's status) and "self-tile".
// Buttons in the error box: data-testid="error-action-…" (retry, sound-only, watch,
// automatic-codec). Charts: "chart-rtt|rate|fps|loss", numbers in "value-rate-out" and so on.

import { Dock } from './dock.js';
import { Echo, idleEcho } from './echo.js';
import { Lobby, roomFromAddress } from './lobby.js';
import { Notices } from './notices.js';
import { asProblem, noWebRtc } from './problems.js';
import { idleRoom, Room } from './room.js';
import { watchServer } from './server-line.js';
import { Settings } from './settings.js';

const byId = (id) => document.getElementById(id);

const state = { mode: 'echo', status: 'idle', error: null, echo: idleEcho(), room: idleRoom() };
window.echoSfu = state;

const notices = new Notices(state);
const dock = new Dock();
const running = () => [echo, room].find((one) => one.running) ?? null;
const settings = new Settings({
  onDevice: (kind, id) => running()?.useDevice(kind, id),
  onCodec: () => running()?.codecChanged(),
});
const echo = new Echo({ state, notices, settings, onActivity: () => activity(), onWatch: watchInstead });
const room = new Room({ state, notices, settings, onActivity: () => activity() });
const lobby = new Lobby({
  onJoin: (wish) => {
    echo.stop();
    room.join(wish);
  },
});

/** Repaints what depends on whether echo or room run, and on their camera and microphone. */
function activity() {
  const active = running();
  const ready = active && (active.media || active.kind === 'room');
  dock.show(ready ? active : null);
  byId('tab-echo').classList.toggle('is-live', echo.running);
  byId('tab-room').classList.toggle('is-live', room.running);
}

function show(mode) {
  state.mode = mode;
  for (const one of ['echo', 'room']) {
    const selected = one === mode;
    const tab = byId(`tab-${one}`);
    tab.setAttribute('aria-selected', String(selected));
    tab.tabIndex = selected ? 0 : -1;
    byId(`panel-${one}`).hidden = !selected;
  }
  if (mode === 'room' && !room.running) lobby.look();
}

function watchInstead() {
  show('room');
  byId('watch-only').checked = true;
  byId('join-button').focus();
}

for (const mode of ['echo', 'room']) byId(`tab-${mode}`).addEventListener('click', () => show(mode));
document.querySelector('.tabs').addEventListener('keydown', (event) => {
  if (!['ArrowLeft', 'ArrowRight', 'Home', 'End'].includes(event.key)) return;
  event.preventDefault();
  const first = event.key === 'Home' || (event.key !== 'End' && state.mode === 'room');
  show(first ? 'echo' : 'room');
  byId(`tab-${state.mode}`).focus();
});

// Capturing, so that a room ends before the echo asks for the same camera.
byId('start-button').addEventListener('click', () => room.stop(), { capture: true });
window.addEventListener('pagehide', () => {
  echo.stop();
  room.stop();
});
window.addEventListener('hashchange', () => {
  const name = roomFromAddress();
  if (!name || room.running) return;
  lobby.setRoom(name);
  show('room');
});
window.addEventListener('unhandledrejection', ({ reason }) => {
  notices.show(asProblem(reason), { scope: 'unexpected' });
});

show(roomFromAddress() === null ? 'echo' : 'room');
settings.refresh();
watchServer(byId('server-line'));
if (!window.RTCPeerConnection) notices.show(noWebRtc(), { scope: 'browser' });
