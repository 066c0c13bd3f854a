// One WebRTC connection to the server, and the loop that keeps one up.

import { postOffer, endSession, serverAnswers } from './signaling.js';
import {
  asProblem, connectionLost, noCommonCodec, noWebRtc, secureHandshakeFailed, serverUnreachable, udpBlocked,
} from './problems.js';

/** How long ICE may search before the page says that UDP is probably blocked. */
const STUCK_MS = 10_000;
/** How long an interrupted connection may take to come back by itself. */
const INTERRUPTED_MS = 6_000;
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 15_000;

/**
 * One offer, one answer, one connection. The server is ICE-lite and puts its candidates in the
 * answer; ours need not travel, it learns them from our checks. So the offer goes out at once.
 */
export class Session {
  /**
   * @param {string} path where the offer is posted
   * @param {{prepare(pc: RTCPeerConnection): void, onState?(session: Session): void,
   *   onTrouble?(problem: Problem): void, onTrack?(event: RTCTrackEvent): void,
   *   needsAllMedia?: boolean}} handlers
   *   `needsAllMedia`: an answer that turns down some of the offered media is a failure
   */
  constructor(path, handlers) {
    if (!window.RTCPeerConnection) throw noWebRtc();
    this.path = path;
    this.handlers = handlers;
    this.answer = null;
    this.wasConnected = false;
    this.closed = false;
    /** Resolves with the Problem that ended the connection, or null when we closed it. */
    this.ended = new Promise((resolve) => { this.resolveEnded = resolve; });
    this.timers = new Set();
    this.pc = new RTCPeerConnection({ iceServers: [], bundlePolicy: 'max-bundle' });
    this.pc.ontrack = (event) => handlers.onTrack?.(event);
    this.pc.onconnectionstatechange = () => this.#stateChanged();
    this.pc.oniceconnectionstatechange = () => { if (!this.closed) handlers.onState?.(this); };
    handlers.prepare(this.pc);
  }

  /** Throws a Problem when the server refuses; afterwards `ended` tells the rest. */
  async open() {
    await this.pc.setLocalDescription();
    const answer = await postOffer(this.path, this.pc.localDescription.sdp);
    if (this.closed) {
      if (answer.session) endSession(answer.session);
      return;
    }
    this.answer = answer;
    await this.pc.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
    if (this.handlers.needsAllMedia && this.pc.getTransceivers().some(isRefused)) throw noCommonCodec();
    this.#watchTransport();
    this.#after(STUCK_MS, () => {
      if (!this.wasConnected) this.handlers.onTrouble?.(this.#neverConnected());
    });
  }

  /** Closes the connection and tells the server. Safe to call twice. */
  close() {
    this.#end(null);
  }

  #stateChanged() {
    if (this.closed) return;
    const state = this.pc.connectionState;
    if (state === 'connected') {
      this.wasConnected = true;
      this.#clearTimers();
    } else if (state === 'disconnected') {
      this.#interrupted();
    } else if (state === 'failed') {
      this.#failed();
    }
    this.handlers.onState?.(this);
  }

  async #interrupted() {
    this.#after(INTERRUPTED_MS, () => {
      if (this.pc.connectionState !== 'connected') this.#failed();
    });
    const alive = await serverAnswers();
    if (!alive && this.pc.connectionState === 'disconnected') this.#end(serverUnreachable());
  }

  async #failed() {
    if (!this.wasConnected) {
      this.#end(this.#neverConnected());
      return;
    }
    const alive = await serverAnswers();
    this.#end(alive ? connectionLost() : serverUnreachable());
  }

  #neverConnected() {
    const ice = this.pc.iceConnectionState;
    if (ice === 'connected' || ice === 'completed') return secureHandshakeFailed();
    return udpBlocked(candidateAddresses(this.answer?.sdp ?? ''));
  }

  /** A server that ends the session says so in DTLS; ICE would notice only many seconds later. */
  #watchTransport() {
    const [transceiver] = this.pc.getTransceivers();
    const transport = transceiver?.sender.transport ?? transceiver?.receiver.transport;
    transport?.addEventListener('statechange', () => {
      if (transport.state === 'closed' && !this.closed) this.#failed();
    });
  }

  #end(problem) {
    if (this.closed) return;
    this.closed = true;
    this.#clearTimers();
    this.pc.close();
    if (this.answer?.session) endSession(this.answer.session);
    this.resolveEnded(problem);
  }

  #after(milliseconds, run) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      if (!this.closed) run();
    }, milliseconds);
    this.timers.add(timer);
  }

  #clearTimers() {
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
  }
}

/** Media that the answer turned down neither sends nor receives. */
function isRefused({ currentDirection }) {
  return !['sendrecv', 'sendonly', 'recvonly'].includes(currentDirection);
}

function candidateAddresses(sdp) {
  const addresses = [...sdp.matchAll(/^a=candidate:\S+ 1 udp \d+ (\S+) (\d+) /gim)]
    .map(([, address, port]) => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`));
  return [...new Set(addresses)].slice(0, 4);
}

/**
 * Keeps one connection up until stopped: opens it, waits for its end, waits a while (longer each
 * time it fails in a row), opens it again.
 *
 * `onPhase(phase, {problem, delayMs})` tells `connecting`, `connected`, `interrupted`, `waiting`
 * (will retry) and `failed` (will not).
 */
export class PersistentSession {
  constructor({ path, prepare, needsAllMedia, onTrack, onSession, onPhase, onTrouble }) {
    this.stopped = false;
    this.session = null;
    this.attempts = 0;
    this.options = { path, prepare, needsAllMedia, onTrack, onSession, onPhase, onTrouble };
    this.wake = () => {};
    this.done = this.#run();
  }

  /** Ends the connection for good. */
  stop() {
    this.stopped = true;
    this.session?.close();
    this.wake();
  }

  /** Starts over at once, with what `prepare` then says. */
  restart() {
    this.attempts = 0;
    this.session?.close();
    this.wake();
  }

  async #run() {
    // The maker of this object must hold it before the first callback runs.
    await null;
    while (!this.stopped) {
      const problem = await this.#connectOnce();
      if (this.stopped) return;
      if (!problem) continue;
      if (problem.fatal) {
        this.options.onPhase('failed', { problem });
        await this.#pause(null);
      } else {
        const delayMs = Math.max(retryDelay(this.attempts), problem.retryAfter * 1000);
        this.attempts += 1;
        this.options.onPhase('waiting', { problem, delayMs });
        await this.#pause(delayMs);
      }
    }
  }

  /** The Problem that ended the attempt, or null when it was closed from here. */
  async #connectOnce() {
    const { path, prepare, needsAllMedia, onTrack, onSession, onPhase, onTrouble } = this.options;
    try {
      onPhase('connecting', {});
      const session = new Session(path, {
        prepare,
        needsAllMedia,
        onTrack,
        onTrouble,
        onState: () => {
          const state = session.pc.connectionState;
          if (state === 'connected') {
            this.attempts = 0;
            onPhase('connected', {});
          } else if (state === 'disconnected') {
            onPhase('interrupted', {});
          }
        },
      });
      this.session = session;
      onSession?.(session);
      // Raced, because the steps of a connection closed midway never finish.
      return await Promise.race([session.ended, session.open().then(() => session.ended)]);
    } catch (error) {
      this.session?.close();
      return asProblem(error);
    }
  }

  /** Sleeps until the time is over (never, for null) or `stop` or `restart` is called. */
  #pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = milliseconds === null ? null : setTimeout(resolve, milliseconds);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Doubles per attempt up to a limit; the random part keeps many pages from returning in step. */
function retryDelay(attempt) {
  const delay = Math.min(FIRST_RETRY_MS * 2 ** attempt, LONGEST_RETRY_MS);
  return delay * (0.8 + 0.4 * Math.random());
}
