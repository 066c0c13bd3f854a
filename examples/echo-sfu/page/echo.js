// The echo: one connection that carries camera and microphone there and back, and its measurements.

import { LiveChart, plainScale, rateScale } from './charts.js';
import { preferCodec } from './codecs.js';
import { allowSound, LevelMeter } from './levels.js';
import { LocalMedia } from './media.js';
import { asProblem, connectionWaysOut, mediaWaysOut } from './problems.js';
import { PersistentSession } from './session.js';
import { echoPath } from './signaling.js';
import { StatsSampler } from './stats.js';

const SAMPLE_MS = 1000;
const byId = (id) => document.getElementById(id);

/** What `window.echoSfu.echo` holds while nothing runs. */
export function idleEcho() {
  return {
    status: 'idle', connectionState: 'new', iceConnectionState: 'new', session: null, attempts: 0,
    framesSent: 0, framesDecoded: 0, bytesSent: 0, bytesReceived: 0, audioBytesReceived: 0,
    sentFps: null, echoedFps: null, outKbps: null, backKbps: null, outLossPercent: null, backLossPercent: null,
    rttMs: null, codec: null, audioCodec: null, width: 0, height: 0, pair: null, muted: true,
  };
}

export class Echo {
  kind = 'echo';

  /**
   * @param {{state: object, notices: Notices, settings: Settings, onActivity(): void, onWatch(): void}} page
   *   `onActivity` runs when the echo starts, stops, or changes what its buttons should say
   */
  constructor(page) {
    this.page = page;
    this.media = null;
    this.connection = null;
    this.running = false;
    this.selfVideo = byId('self-video');
    this.echoVideo = byId('echo-video');
    this.charts = makeCharts(byId('charts'));
    byId('start-button').addEventListener('click', () => this.start());
    byId('echo-sound-button').addEventListener('click', () => this.#setEchoSound(this.echoVideo.muted));
    this.echoVideo.addEventListener('resize', () => this.#paintViews());
    this.selfVideo.addEventListener('resize', () => {
      // A phone held upright sends an upright picture.
      byId('stage').classList.toggle('upright', this.selfVideo.videoHeight > this.selfVideo.videoWidth);
    });
  }

  async start({ video = true } = {}) {
    if (this.running) return;
    this.running = true;
    allowSound();
    this.page.onActivity();
    this.page.notices.clear();
    this.#status('starting', video ? 'Asking for the camera…' : 'Asking for the microphone…');
    byId('start-button').disabled = true;
    const { cameraId, microphoneId } = this.page.settings;
    try {
      const media = await LocalMedia.open({ video, cameraId, microphoneId });
      if (!this.running) {
        media.close();
        return;
      }
      this.media = media;
    } catch (error) {
      if (this.running) this.#mediaFailed(asProblem(error));
      return;
    } finally {
      byId('start-button').disabled = false;
    }
    this.#run();
  }

  stop() {
    if (!this.running) return;
    this.#tearDown();
    this.page.notices.clear();
    this.#status('idle', 'Stopped');
    byId('start-button').focus({ preventScroll: true });
  }

  useDevice(kind, id) {
    this.media?.useDevice(kind, id);
  }

  codecChanged() {
    this.connection?.restart();
  }

  #run() {
    const { media } = this;
    media.onChange = () => {
      this.#paintViews();
      this.page.onActivity();
    };
    media.onTrouble = (problem) => this.page.notices.show(problem, { scope: 'media' });
    this.page.settings.refresh();
    byId('echo-intro').hidden = true;
    byId('echo-live').hidden = false;
    this.selfVideo.srcObject = media.stream;
    this.#setEchoSound(false);
    byId('echo-sound-button').hidden = !media.hasMicrophone;
    for (const chart of Object.values(this.charts)) chart.clear();
    this.selfLevel = new LevelMeter(media.stream, showLevel(byId('self-level')));
    this.connection = new PersistentSession({
      path: echoPath(),
      needsAllMedia: true,
      prepare: (pc) => {
        const { video } = media.feed(pc, 'sendrecv');
        if (video) preferCodec(video, this.page.settings.codec);
      },
      onSession: (session) => this.#newSession(session),
      onTrack: ({ track }) => this.#gotTrack(track),
      onPhase: (phase, more) => this.#phase(phase, more),
      onTrouble: (problem) => this.#connectionFailed(problem),
    });
    this.timer = setInterval(() => this.#sample(), SAMPLE_MS);
    this.#paintViews();
    this.page.onActivity();
    byId('stop-button').focus({ preventScroll: true });
  }

  #tearDown() {
    this.running = false;
    clearInterval(this.timer);
    this.connection?.stop();
    this.connection = null;
    this.session = null;
    this.media?.close();
    this.media = null;
    this.selfLevel?.stop();
    this.echoLevel?.stop();
    this.selfVideo.srcObject = null;
    this.echoVideo.srcObject = null;
    byId('echo-intro').hidden = false;
    byId('echo-live').hidden = true;
    Object.assign(this.page.state.echo, idleEcho());
    this.page.onActivity();
  }

  #newSession(session) {
    this.session = session;
    this.sampler = new StatsSampler(session.pc);
    this.echoStream = new MediaStream();
    this.echoVideo.srcObject = this.echoStream;
    this.page.state.echo.attempts += 1;
    this.#paintViews();
  }

  #gotTrack(track) {
    this.echoStream.addTrack(track);
    this.echoVideo.play().catch(() => { /* a later track interrupts the first play; autoplay goes on */ });
    if (track.kind === 'audio') {
      this.echoLevel?.stop();
      this.echoLevel = new LevelMeter(this.echoStream, showLevel(byId('echo-level')));
    }
  }

  #phase(phase, { problem, delayMs }) {
    const again = this.page.state.echo.attempts > 0;
    if (phase === 'connecting') {
      this.#status(again ? 'reconnecting' : 'connecting', again ? 'Reconnecting…' : 'Connecting…');
    } else if (phase === 'connected') {
      this.page.notices.clear('connection');
      this.#status('connected', 'Connected');
    } else if (phase === 'interrupted') {
      this.#status('reconnecting', 'Interrupted, waiting for it to come back…');
    } else if (phase === 'waiting') {
      this.#connectionFailed(problem);
      this.#status('reconnecting', `Trying again in ${Math.ceil(delayMs / 1000)} s`);
    } else {
      this.#connectionFailed(problem);
      this.#status('failed', 'Not connected');
    }
  }

  #connectionFailed(problem) {
    this.page.notices.show(problem, {
      scope: 'connection',
      actions: connectionWaysOut(problem, {
        retry: () => this.connection?.restart(),
        automaticCodec: () => {
          this.page.settings.codec = 'auto';
          this.connection?.restart();
        },
      }),
    });
  }

  #mediaFailed(problem) {
    this.#tearDown();
    this.#status('failed', problem.title);
    this.page.notices.show(problem, {
      scope: 'media',
      actions: mediaWaysOut(problem, {
        retry: () => this.start(),
        soundOnly: () => this.start({ video: false }),
        watch: () => this.page.onWatch(),
      }),
    });
  }

  #status(status, text) {
    this.page.state.echo.status = status;
    this.page.notices.status(status, text);
  }

  #setEchoSound(on) {
    this.echoVideo.muted = !on;
    this.page.state.echo.muted = !on;
    const button = byId('echo-sound-button');
    button.querySelector('use').setAttribute('href', on ? '#i-sound' : '#i-sound-off');
    button.querySelector('span').textContent = on ? 'Mute echo' : 'Unmute echo';
    button.title = on ? 'Silence the echo' : 'Hear yourself come back; headphones keep it from howling';
  }

  /** What lies over the pictures when there is none. */
  #paintViews() {
    const { media } = this;
    if (!media) return;
    const reason = media.hasCamera ? (media.cameraOn ? '' : 'Camera is off') : 'Sound only';
    cover(byId('self-empty'), reason);
    cover(byId('echo-empty'), reason || (this.echoVideo.videoWidth ? '' : 'Waiting for the echo…'));
    byId('self-note').textContent = media.hasMicrophone ? (media.microphoneOn ? '' : 'microphone muted') : 'no microphone';
  }

  async #sample() {
    const { session, sampler } = this;
    if (!session || session.closed) {
      this.#show(null);
      return;
    }
    const sample = await sampler.sample();
    if (session === this.session) this.#show(sample);
  }

  #show(sample) {
    const now = performance.now() / 1000;
    const { out, back } = sample ?? { out: {}, back: {} };
    this.charts.rtt.add(now, { rtt: sample?.rttMs ?? null });
    this.charts.rate.add(now, { out: out.kbps, back: back.kbps });
    this.charts.fps.add(now, { out: out.fps, back: back.fps });
    this.charts.loss.add(now, { out: out.lossPercent, back: back.lossPercent });
    const state = this.page.state.echo;
    const pc = this.session?.pc;
    state.connectionState = pc?.connectionState ?? 'new';
    state.iceConnectionState = pc?.iceConnectionState ?? 'new';
    state.session = this.session?.answer?.session ?? null;
    if (sample) {
      Object.assign(state, {
        framesSent: out.framesSent, framesDecoded: back.framesDecoded,
        bytesSent: out.bytes, bytesReceived: back.bytes, audioBytesReceived: back.audioBytes,
        sentFps: out.fps, echoedFps: back.fps, outKbps: out.kbps, backKbps: back.kbps,
        outLossPercent: out.lossPercent, backLossPercent: back.lossPercent,
        rttMs: sample.rttMs, codec: back.codec ?? out.codec, audioCodec: back.audioCodec ?? out.audioCodec,
        width: back.width, height: back.height, pair: sample.pair,
      });
    }
    showFacts(byId('facts'), sample, pc);
  }
}

function cover(node, text) {
  node.textContent = text;
  node.hidden = !text;
}

function showLevel(bar) {
  return (level) => { bar.style.transform = `scaleX(${level.toFixed(3)})`; };
}

function makeCharts(parent) {
  const both = [{ key: 'out', name: 'sent' }, { key: 'back', name: 'echoed' }];
  return {
    rtt: new LiveChart(parent, {
      id: 'rtt', title: 'Round trip', smallestTop: 10, scale: plainScale('ms', 50), series: [{ key: 'rtt', name: 'round trip' }],
    }),
    rate: new LiveChart(parent, { id: 'rate', title: 'Bitrate', smallestTop: 500, scale: rateScale, series: both }),
    fps: new LiveChart(parent, { id: 'fps', title: 'Frames', smallestTop: 40, scale: plainScale('fps'), series: both }),
    loss: new LiveChart(parent, { id: 'loss', title: 'Packet loss', smallestTop: 5, scale: plainScale('%', 20), series: both }),
  };
}

function showFacts(list, sample, pc) {
  const { out = {}, back = {}, pair = null } = sample ?? {};
  const size = ({ width, height }) => (width ? `${width} × ${height}` : '–');
  const codecs = [back.codec ?? out.codec, back.audioCodec ?? out.audioCodec].filter(Boolean).join(' + ');
  const facts = {
    State: pc ? pc.connectionState : 'closed',
    Codec: codecs || '–',
    Sent: size(out) + (out.limitedBy && out.limitedBy !== 'none' ? `, limited by ${out.limitedBy}` : ''),
    Echoed: size(back),
    'Playout buffer': Number.isFinite(back.bufferMs) ? `${back.bufferMs.toFixed(0)} ms` : '–',
    'ICE pair': pair ? `${pair.local} → ${pair.remote}, ${pair.protocol}` : `none (${pc?.iceConnectionState ?? 'closed'})`,
  };
  list.replaceChildren(...Object.entries(facts).map(([name, value]) => {
    const group = document.createElement('div');
    const term = document.createElement('dt');
    const description = document.createElement('dd');
    term.textContent = name;
    description.textContent = value;
    group.append(term, description);
    return group;
  }));
}
