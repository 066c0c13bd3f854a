// The camera and the microphone of this page: opening them, switching, pausing, and feeding them
// into connections.

import { deviceEnded, mediaProblem, noCamera, noDevices, noMediaDevices } from './problems.js';

/** Long enough for one black frame to leave, so that receivers do not keep the last picture. */
const LAST_FRAME_MS = 250;

/** What viewers choose from: a picture for whoever has little room, and the whole one. */
const LAYERS = [
  { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: 'f' },
];

const sleep = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

function cameraConstraints(deviceId) {
  return { deviceId, width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
}

function microphoneConstraints(deviceId) {
  return { deviceId, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
}

/** Cameras and microphones known to the browser; labels are empty until one was allowed. */
export async function listDevices() {
  const all = await navigator.mediaDevices?.enumerateDevices?.() ?? [];
  return {
    cameras: all.filter((device) => device.kind === 'videoinput'),
    microphones: all.filter((device) => device.kind === 'audioinput'),
  };
}

export class LocalMedia {
  /**
   * Asks for camera and microphone, or for the microphone alone. A missing microphone is no error
   * while there is a camera. Throws a Problem.
   * @param {{video: boolean, cameraId?: string, microphoneId?: string}} wish
   */
  static async open({ video, cameraId = '', microphoneId = '' }) {
    if (!navigator.mediaDevices?.getUserMedia) throw noMediaDevices();
    const { cameras, microphones } = await listDevices();
    if (cameras.length + microphones.length === 0) throw noDevices();
    if (video && cameras.length === 0) throw noCamera();
    const constraints = {
      video: video && cameraConstraints(cameraId ? { ideal: cameraId } : undefined),
      audio: microphones.length > 0 && microphoneConstraints(microphoneId ? { ideal: microphoneId } : undefined),
    };
    try {
      return new LocalMedia(await navigator.mediaDevices.getUserMedia(constraints), { video, cameraId, microphoneId });
    } catch (error) {
      throw mediaProblem(error);
    }
  }

  constructor(stream, { video, cameraId, microphoneId }) {
    this.stream = stream;
    this.hasCamera = video;
    this.hasMicrophone = stream.getAudioTracks().length > 0;
    this.cameraOn = video;
    this.microphoneOn = this.hasMicrophone;
    this.ids = { video: cameraId, audio: microphoneId };
    this.senders = { video: null, audio: null };
    this.closed = false;
    /** Called after anything changed. */
    this.onChange = () => {};
    /** Called with a Problem when a device goes away or cannot be opened. */
    this.onTrouble = () => {};
    this.queue = Promise.resolve();
    for (const track of stream.getTracks()) this.#watch(track);
  }

  get videoTrack() {
    return this.stream.getVideoTracks()[0] ?? null;
  }

  get audioTrack() {
    return this.stream.getAudioTracks()[0] ?? null;
  }

  /** Adds what there is to a connection; later switches go to the connection fed last. */
  feed(pc, direction) {
    const transceivers = {};
    for (const kind of ['audio', 'video']) {
      if (kind === 'video' ? !this.hasCamera : !this.hasMicrophone) continue;
      const track = kind === 'video' ? this.videoTrack : this.audioTrack;
      const wish = { direction, streams: [this.stream] };
      if (kind === 'video' && direction === 'sendonly') wish.sendEncodings = LAYERS;
      transceivers[kind] = pc.addTransceiver(track ?? kind, wish);
      this.senders[kind] = transceivers[kind].sender;
    }
    return transceivers;
  }

  setMicrophone(on) {
    this.microphoneOn = on;
    if (this.audioTrack) this.audioTrack.enabled = on;
    else if (on) this.#inTurn(() => this.#replace('audio'));
    this.onChange();
  }

  /** Off means off: the device is released and its light goes out. */
  setCamera(on) {
    if (on === this.cameraOn) return;
    this.cameraOn = on;
    this.onChange();
    this.#inTurn(on ? () => this.#replace('video') : () => this.#pauseCamera());
  }

  useDevice(kind, deviceId) {
    this.ids[kind] = deviceId;
    const inUse = kind === 'video' ? this.hasCamera && this.cameraOn : this.hasMicrophone;
    if (inUse) this.#inTurn(() => this.#replace(kind));
  }

  close() {
    this.closed = true;
    for (const track of this.stream.getTracks()) track.stop();
  }

  /** One change after the other: a quick on-off-on must not leave two cameras open. */
  #inTurn(change) {
    this.queue = this.queue.then(async () => {
      if (this.closed) return;
      try {
        await change();
      } catch (error) {
        if (!this.closed) this.onTrouble(mediaProblem(error));
      }
      if (!this.closed) this.onChange();
    });
  }

  async #pauseCamera() {
    const track = this.videoTrack;
    if (!track) return;
    track.enabled = false;
    await sleep(LAST_FRAME_MS);
    await this.#send('video', null);
    track.stop();
    this.stream.removeTrack(track);
  }

  async #replace(kind) {
    const old = kind === 'video' ? this.videoTrack : this.audioTrack;
    // Many phones cannot hold two cameras open, so the old one goes first.
    if (old) {
      old.stop();
      this.stream.removeTrack(old);
    }
    const id = this.ids[kind] ? { exact: this.ids[kind] } : undefined;
    const constraints = kind === 'video' ? { video: cameraConstraints(id) } : { audio: microphoneConstraints(id) };
    let opened;
    try {
      opened = await navigator.mediaDevices.getUserMedia(constraints);
    } catch (error) {
      if (kind === 'video') this.cameraOn = false;
      else this.microphoneOn = false;
      await this.#send(kind, null);
      throw error;
    }
    const [track] = opened.getTracks();
    if (this.closed) {
      track.stop();
      return;
    }
    if (kind === 'audio') track.enabled = this.microphoneOn;
    this.stream.addTrack(track);
    this.#watch(track);
    await this.#send(kind, track);
  }

  /** The connection may be closed meanwhile; the next one is fed with the new track anyway. */
  async #send(kind, track) {
    await this.senders[kind]?.replaceTrack(track).catch(() => {});
  }

  #watch(track) {
    track.onended = () => {
      if (this.closed) return;
      this.stream.removeTrack(track);
      if (track.kind === 'video') this.cameraOn = false;
      else this.microphoneOn = false;
      this.onTrouble(deviceEnded(track.kind));
      this.onChange();
    };
  }
}
