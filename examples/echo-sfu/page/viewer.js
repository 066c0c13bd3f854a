// Watching one publisher of a room: its WHEP connection, kept up, and its tile.

import { PersistentSession } from './session.js';
import { viewPath } from './signaling.js';
import { formatRate, StatsSampler } from './stats.js';
import { Tile } from './tile.js';

/** So many samples in a row without a new frame mean that there is no picture now. */
const STILL_SAMPLES = 3;

export class Viewer {
  /** @param {{room: string, publisher: object, grid: HTMLElement}} options `publisher` as in GET /rooms */
  constructor({ room, publisher, grid }) {
    this.publisher = publisher;
    this.name = publisher.name || 'Guest';
    this.kinds = new Set(publisher.tracks?.map((track) => track.kind));
    if (this.kinds.size === 0) this.kinds = new Set(['audio', 'video']);
    this.tile = new Tile(grid, { name: this.name, id: publisher.id });
    this.still = STILL_SAMPLES;
    /** What `window.echoSfu.room.peers[id]` shows. */
    this.state = {
      id: publisher.id, name: this.name, status: 'connecting', connectionState: 'new', attempts: 0, error: null,
      framesDecoded: 0, bytesReceived: 0, audioBytesReceived: 0, fps: null, kbps: null, lossPercent: null, rttMs: null,
      width: 0, height: 0,
    };
    this.connection = new PersistentSession({
      path: viewPath(room, publisher.id),
      prepare: (pc) => {
        for (const kind of this.kinds) pc.addTransceiver(kind, { direction: 'recvonly' });
      },
      onSession: (session) => this.#newSession(session),
      onTrack: ({ track }) => this.#gotTrack(track),
      onPhase: (phase, more) => this.#phase(phase, more),
      onTrouble: (problem) => {
        this.state.error = problem.code;
        this.tile.setMessage('No media gets through yet. UDP may be blocked.');
      },
    });
    this.#phase('connecting', {});
  }

  /** Ends the connection and takes the tile away. */
  stop() {
    this.connection.stop();
    this.tile.remove();
  }

  async sample() {
    const { session } = this;
    if (!session || session.closed) return;
    const { back, rttMs } = await this.sampler.sample();
    if (session !== this.session || this.connection.stopped) return;
    const fresh = back.framesDecoded > this.state.framesDecoded;
    this.still = fresh ? 0 : this.still + 1;
    Object.assign(this.state, {
      connectionState: session.pc.connectionState, rttMs,
      framesDecoded: back.framesDecoded, bytesReceived: back.bytes, audioBytesReceived: back.audioBytes,
      fps: back.fps, kbps: back.kbps, lossPercent: back.lossPercent, width: back.width, height: back.height,
    });
    this.#paint();
  }

  #newSession(session) {
    this.session = session;
    this.sampler = new StatsSampler(session.pc);
    this.stream = new MediaStream();
    this.state.attempts += 1;
    this.state.framesDecoded = 0;
    this.still = STILL_SAMPLES;
  }

  #gotTrack(track) {
    this.stream.addTrack(track);
    this.tile.play(this.stream);
    if (track.kind === 'audio') this.tile.hearStream(this.stream);
  }

  #phase(phase, { problem, delayMs }) {
    this.state.status = phase;
    this.state.error = problem?.code ?? null;
    this.tile.setState(phase);
    const again = this.state.attempts > 1;
    const words = {
      connecting: again ? 'Reconnecting…' : 'Connecting…',
      connected: '',
      interrupted: 'Interrupted…',
      waiting: problem && `${problem.title}. Trying again in ${Math.ceil((delayMs ?? 0) / 1000)} s`,
      failed: problem?.title,
    };
    this.tile.setMessage(words[phase] ?? '');
    this.#paint();
  }

  #paint() {
    const { state, tile } = this;
    const moving = this.still < STILL_SAMPLES;
    tile.setPicture(moving);
    if (state.status === 'connected') {
      const silent = this.kinds.has('video') ? 'No picture now' : 'Sound only';
      tile.setMessage(moving ? '' : silent);
    }
    tile.stats.textContent = state.status === 'connected' ? shortStats(state, moving) : '';
  }
}

function shortStats({ height, fps, kbps, lossPercent }, moving) {
  const parts = [];
  if (moving && height) parts.push(`${height}p`);
  if (moving && fps !== null) parts.push(`${fps.toFixed(0)} fps`);
  if (kbps !== null) parts.push(formatRate(kbps));
  if (lossPercent) parts.push(`${lossPercent.toFixed(1)} % lost`);
  return parts.join(' · ');
}
