// How loud a stream is, without playing it.

let context = null;

/** Browsers let sound start only after a click or key; call this from one. */
export function allowSound() {
  const Context = window.AudioContext ?? window.webkitAudioContext;
  if (!Context) return;
  context ??= new Context();
  context.resume().catch(() => {});
}

/**
 * Watches the first audio track of a stream, whichever that is at the time, until stopped. Hands its
 * loudness, 0 to 1, to `show` for every frame drawn.
 */
export class LevelMeter {
  constructor(stream, show) {
    this.stream = stream;
    this.show = show;
    this.track = null;
    this.level = 0;
    if (!context) return;
    this.analyser = context.createAnalyser();
    this.analyser.fftSize = 1024;
    this.samples = new Float32Array(this.analyser.fftSize);
    this.#tick();
  }

  stop() {
    cancelAnimationFrame(this.frame);
    this.source?.disconnect();
    this.show(0);
  }

  #tick() {
    this.frame = requestAnimationFrame(() => this.#tick());
    this.#followTrack();
    if (!this.track) return;
    this.analyser.getFloatTimeDomainData(this.samples);
    const power = this.samples.reduce((sum, sample) => sum + sample * sample, 0) / this.samples.length;
    // Speech lies between about -55 and -10 dB; falling slowly reads better than flickering.
    const loudness = Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-10) + 55) / 45));
    this.level = Math.max(loudness, this.level * 0.9);
    this.show(this.level);
  }

  /** A source stays with the track it was made from, so another microphone needs another one. */
  #followTrack() {
    const track = this.stream.getAudioTracks()[0] ?? null;
    if (track === this.track) return;
    this.track = track;
    this.source?.disconnect();
    if (!track) {
      this.show(0);
      return;
    }
    this.source = context.createMediaStreamSource(new MediaStream([track]));
    this.source.connect(this.analyser);
  }
}
