// How loud a stream is, without playing it.

let context = null;

/** Browsers let sound start only after a click or key; call this from one. */
export function allowSound() {
  const Context = window.AudioContext ?? window.webkitAudioContext;
  if (!Context) return;
  context ??= new Context();
  context.resume().catch(() => {});
}

/** Watches one stream until stopped and hands its loudness, 0 to 1, to `show` for every frame drawn. */
export class LevelMeter {
  constructor(stream, show) {
    this.show = show;
    if (!context || stream.getAudioTracks().length === 0) return;
    this.source = context.createMediaStreamSource(stream);
    this.analyser = context.createAnalyser();
    this.analyser.fftSize = 1024;
    this.samples = new Float32Array(this.analyser.fftSize);
    this.level = 0;
    this.source.connect(this.analyser);
    this.#tick();
  }

  stop() {
    cancelAnimationFrame(this.frame);
    this.source?.disconnect();
    this.show(0);
  }

  #tick() {
    this.frame = requestAnimationFrame(() => this.#tick());
    this.analyser.getFloatTimeDomainData(this.samples);
    const power = this.samples.reduce((sum, sample) => sum + sample * sample, 0) / this.samples.length;
    // Speech lies between about -55 and -10 dB; falling slowly reads better than flickering.
    const loudness = Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-10) + 55) / 45));
    this.level = Math.max(loudness, this.level * 0.9);
    this.show(this.level);
  }
}
