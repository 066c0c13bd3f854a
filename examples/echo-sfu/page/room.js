// A room: publishing into it (WHIP), noticing who else does, and watching each of them (WHEP).

import { preferCodec } from './codecs.js';
import { allowSound } from './levels.js';
import { LocalMedia } from './media.js';
import { asProblem, connectionWaysOut, mediaWaysOut } from './problems.js';
import { PersistentSession } from './session.js';
import { publishPath, readRoom } from './signaling.js';
import { formatRate, StatsSampler } from './stats.js';
import { Tile } from './tile.js';
import { Viewer } from './viewer.js';

const POLL_MS = 1500;
const SLOWEST_POLL_MS = 8000;
const SAMPLE_MS = 1000;
const byId = (id) => document.getElementById(id);

/** What `window.echoSfu.room` holds while in no room. */
export function idleRoom() {
  return {
    status: 'idle', name: null, displayName: '', selfId: null, watchOnly: false,
    publish: { connectionState: 'new', framesSent: 0, bytesSent: 0, kbps: null, rttMs: null, attempts: 0 },
    peers: {},
  };
}

export class Room {
  kind = 'room';

  /** @param {{state: object, notices: Notices, settings: Settings, onActivity(): void}} page as for the echo */
  constructor(page) {
    this.page = page;
    this.running = false;
    this.media = null;
    this.publisher = null;
    this.viewers = new Map();
    this.ownIds = new Set();
  }

  /** @param {{room: string, displayName: string, watchOnly: boolean, video?: boolean}} wish */
  async join(wish) {
    if (this.running) return;
    this.running = true;
    this.wish = wish;
    allowSound();
    this.page.onActivity();
    this.page.notices.clear();
    if (!wish.watchOnly) {
      this.#status('starting', 'Asking for the camera…');
      byId('join-button').disabled = true;
      try {
        const { cameraId, microphoneId } = this.page.settings;
        const media = await LocalMedia.open({ video: wish.video ?? true, cameraId, microphoneId });
        if (!this.running) {
          media.close();
          return;
        }
        this.media = media;
      } catch (error) {
        if (this.running) this.#mediaFailed(asProblem(error));
        return;
      } finally {
        byId('join-button').disabled = false;
      }
    }
    this.#enter();
  }

  /** Leaves the room, telling the server. */
  stop() {
    if (!this.running) return;
    this.#tearDown();
    this.page.notices.clear();
    this.#status('idle', 'You left the room');
    byId('join-button').focus({ preventScroll: true });
  }

  useDevice(kind, id) {
    this.media?.useDevice(kind, id);
  }

  codecChanged() {
    this.publisher?.restart();
  }

  #enter() {
    const { room, displayName, watchOnly } = this.wish;
    const state = this.page.state.room;
    Object.assign(state, { name: room, displayName, watchOnly });
    byId('lobby').hidden = true;
    byId('room-live').hidden = false;
    byId('room-title').textContent = room;
    document.title = `${room} – Echo SFU`;
    byId('share-link').value = `${location.origin}${location.pathname}?room=${encodeURIComponent(room)}`;
    this.ownIds.clear();
    this.phase = 'connecting';
    if (this.media) this.#publish(room, displayName);
    else this.#status('connecting', 'Looking who is there…');
    this.timer = setInterval(() => this.#sample(), SAMPLE_MS);
    this.#poll();
    this.#arrange();
    this.page.onActivity();
    byId('leave-button').focus({ preventScroll: true });
  }

  #tearDown() {
    this.running = false;
    clearInterval(this.timer);
    clearTimeout(this.pollTimer);
    this.publisher?.stop();
    this.publisher = null;
    for (const viewer of this.viewers.values()) viewer.stop();
    this.viewers.clear();
    this.selfTile?.remove();
    this.selfTile = null;
    this.media?.close();
    this.media = null;
    byId('lobby').hidden = false;
    byId('room-live').hidden = true;
    document.title = 'Echo SFU';
    Object.assign(this.page.state.room, idleRoom());
    this.page.onActivity();
  }

  // ---- Publishing -------------------------------------------------------------------------------

  #publish(room, displayName) {
    const { media } = this;
    this.page.settings.refresh();
    this.selfTile = new Tile(byId('grid'), { name: displayName ? `${displayName} (you)` : 'You', self: true });
    this.selfTile.play(media.stream);
    if (media.hasMicrophone) this.selfTile.hearStream(media.stream);
    media.onChange = () => {
      this.#paintSelf();
      this.page.onActivity();
    };
    media.onTrouble = (problem) => this.page.notices.show(problem, { scope: 'media' });
    this.#paintSelf();
    this.publisher = new PersistentSession({
      path: publishPath(room, displayName),
      needsAllMedia: true,
      prepare: (pc) => {
        const { video } = media.feed(pc, 'sendonly');
        if (video) preferCodec(video, this.page.settings.codec);
      },
      onSession: (session) => {
        this.session = session;
        this.sampler = new StatsSampler(session.pc);
        this.page.state.room.publish.attempts += 1;
      },
      onPhase: (phase, more) => this.#publishPhase(phase, more),
      onTrouble: (problem) => this.#connectionFailed(problem),
    });
  }

  #publishPhase(phase, { problem, delayMs }) {
    this.phase = phase;
    const again = this.page.state.room.publish.attempts > 0;
    if (phase === 'connecting') {
      this.#status(again ? 'reconnecting' : 'connecting', again ? 'Reconnecting…' : 'Joining…');
    } else if (phase === 'connected') {
      this.#noteOwnId();
      this.page.notices.clear('connection');
      this.#status('connected', 'In the room');
    } else if (phase === 'interrupted') {
      this.#status('reconnecting', 'Interrupted, waiting for it to come back…');
    } else if (phase === 'waiting') {
      this.#connectionFailed(problem);
      this.#status('reconnecting', `Trying again in ${Math.ceil(delayMs / 1000)} s`);
    } else {
      this.#connectionFailed(problem);
      this.#status('failed', 'Others do not see you');
    }
    this.selfTile.setMessage(phase === 'connected' ? '' : (again ? 'Others do not see you now' : 'Others do not see you yet'));
    this.#paintSelf();
  }

  #noteOwnId() {
    const id = this.session?.answer?.publisherId;
    if (!id) return;
    this.ownIds.add(id);
    this.page.state.room.selfId = id;
  }

  #paintSelf() {
    const { media, selfTile } = this;
    if (!media || !selfTile) return;
    selfTile.setPicture(media.hasCamera && media.cameraOn);
    const notes = [];
    if (!media.microphoneOn) notes.push(media.hasMicrophone ? 'muted' : 'no microphone');
    if (!media.hasCamera) notes.push('sound only');
    else if (!media.cameraOn) notes.push('camera off');
    const { connectionState, kbps } = this.page.state.room.publish;
    if (connectionState === 'connected' && kbps !== null) notes.push(`${formatRate(kbps)} sent`);
    selfTile.stats.textContent = notes.join(' · ');
  }

  // ---- The others -------------------------------------------------------------------------------

  async #poll(failures = 0) {
    const { room } = this.wish;
    let next = POLL_MS;
    let failed = 0;
    try {
      const info = await readRoom(room);
      if (!this.running || this.wish.room !== room) return;
      this.#reconcile(info.publishers);
      this.page.notices.clear('server');
      if (!this.media) this.#status('connected', 'Watching');
    } catch (error) {
      if (!this.running || this.wish.room !== room) return;
      failed = failures + 1;
      next = Math.min(POLL_MS * 2 ** failures, SLOWEST_POLL_MS);
      // One lost request is no news; pictures may well go on.
      if (failed >= 2) this.#serverFailed(asProblem(error));
    }
    this.pollTimer = setTimeout(() => this.#poll(failed), next);
  }

  #reconcile(publishers) {
    this.#noteOwnId();
    const others = publishers.filter(({ id }) => !this.ownIds.has(id));
    const ids = new Set(others.map(({ id }) => id));
    for (const [id, viewer] of this.viewers) {
      if (ids.has(id)) continue;
      viewer.stop();
      this.viewers.delete(id);
      delete this.page.state.room.peers[id];
    }
    // While our own publishing is being answered, one of the unknown ids may be ours.
    const ownIdUnknown = this.publisher && this.phase === 'connecting' && !this.session?.answer;
    if (!ownIdUnknown) {
      for (const publisher of others) {
        if (!this.viewers.has(publisher.id)) this.#watch(publisher);
      }
    }
    this.#arrange();
    byId('room-count').textContent = this.media ? countWithMe(this.viewers.size) : countWatched(this.viewers.size);
    byId('empty-room').hidden = this.viewers.size > 0;
    byId('empty-room').textContent = this.media
      ? 'Nobody else is here yet. Send someone the link.'
      : 'Nobody is on camera here yet. They appear as soon as they join.';
  }

  /** As square a grid as the number of people allows. */
  #arrange() {
    const grid = byId('grid');
    grid.style.setProperty('--columns', Math.max(1, Math.ceil(Math.sqrt(grid.childElementCount))));
  }

  #watch(publisher) {
    const viewer = new Viewer({ room: this.wish.room, publisher, grid: byId('grid') });
    this.viewers.set(publisher.id, viewer);
    this.page.state.room.peers[publisher.id] = viewer.state;
  }

  // ---- Measuring and telling --------------------------------------------------------------------

  async #sample() {
    for (const viewer of this.viewers.values()) viewer.sample();
    const { session } = this;
    if (!this.publisher || !session || session.closed) return;
    const { out, rttMs } = await this.sampler.sample();
    if (session !== this.session || !this.running) return;
    Object.assign(this.page.state.room.publish, {
      connectionState: session.pc.connectionState, framesSent: out.framesSent, bytesSent: out.bytes, kbps: out.kbps, rttMs,
    });
    this.#paintSelf();
  }

  #connectionFailed(problem) {
    this.page.notices.show(problem, {
      scope: 'connection',
      actions: connectionWaysOut(problem, {
        retry: () => this.publisher?.restart(),
        automaticCodec: () => {
          this.page.settings.codec = 'auto';
          this.publisher?.restart();
        },
      }),
    });
  }

  #serverFailed(problem) {
    this.page.notices.show(problem, {
      scope: 'server',
      actions: connectionWaysOut(problem, {
        retry: () => {
          clearTimeout(this.pollTimer);
          this.publisher?.restart();
          this.#poll();
        },
      }),
    });
    if (!this.media) this.#status('reconnecting', 'Trying again…');
  }

  #mediaFailed(problem) {
    const { wish } = this;
    this.#tearDown();
    this.#status('failed', problem.title);
    this.page.notices.show(problem, {
      scope: 'media',
      actions: mediaWaysOut(problem, {
        retry: () => this.join(wish),
        soundOnly: () => this.join({ ...wish, video: false }),
        watch: () => this.join({ ...wish, watchOnly: true }),
      }),
    });
  }

  #status(status, text) {
    this.page.state.room.status = status;
    this.page.notices.status(status, text);
  }
}

function countWithMe(others) {
  if (others === 0) return 'Only you so far';
  return others === 1 ? 'You and one other' : `You and ${others} others`;
}

function countWatched(people) {
  if (people === 0) return 'You are watching';
  return people === 1 ? 'Watching one person' : `Watching ${people} people`;
}
