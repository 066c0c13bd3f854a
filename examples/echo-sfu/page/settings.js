// The choice of camera, microphone and codec, remembered between visits.

import { CODECS, isSupported } from './codecs.js';
import { listDevices } from './media.js';

const byId = (id) => document.getElementById(id);
const PREFIX = 'echo-sfu.';

/** Storage can be refused (private windows, policies); forgetting is fine then. */
export function remember(key, value) {
  try {
    localStorage.setItem(PREFIX + key, value);
  } catch { /* not remembered */ }
}

export function recall(key) {
  try {
    return localStorage.getItem(PREFIX + key) ?? '';
  } catch {
    return '';
  }
}

export class Settings {
  /** @param {{onDevice(kind: string, id: string): void, onCodec(): void}} handlers */
  constructor(handlers) {
    this.camera = byId('camera-select');
    this.microphone = byId('microphone-select');
    this.codecChoice = byId('codec-select');
    this.#bind(this.camera, 'camera', () => handlers.onDevice('video', this.camera.value));
    this.#bind(this.microphone, 'microphone', () => handlers.onDevice('audio', this.microphone.value));
    this.#fillCodecs();
    this.#bind(this.codecChoice, 'codec', () => handlers.onCodec());
    navigator.mediaDevices?.addEventListener?.('devicechange', () => this.refresh());
    const panel = byId('settings');
    byId('settings-button').addEventListener('click', (event) => {
      panel.hidden = !panel.hidden;
      event.currentTarget.setAttribute('aria-expanded', String(!panel.hidden));
      if (!panel.hidden) this.refresh();
    });
  }

  get cameraId() {
    return this.camera.value;
  }

  get microphoneId() {
    return this.microphone.value;
  }

  get codec() {
    return this.codecChoice.value;
  }

  set codec(choice) {
    this.codecChoice.value = choice;
    remember('codec', choice);
  }

  /** Lists the devices again; their names are known once one was allowed. */
  async refresh() {
    const { cameras, microphones } = await listDevices();
    fillDevices(this.camera, 'camera', cameras);
    fillDevices(this.microphone, 'microphone', microphones);
  }

  #fillCodecs() {
    this.codecChoice.replaceChildren(...Object.entries(CODECS).map(([value, name]) => {
      const supported = isSupported(value);
      const option = new Option(supported ? name : `${name} (not in this browser)`, value);
      option.disabled = !supported;
      return option;
    }));
    const wanted = recall('codec');
    this.codecChoice.value = wanted in CODECS && isSupported(wanted) ? wanted : 'auto';
  }

  #bind(select, key, changed) {
    select.addEventListener('change', () => {
      remember(key, select.value);
      changed();
    });
  }
}

function fillDevices(select, name, devices) {
  const wanted = select.value || recall(name);
  const known = devices.filter((device) => device.deviceId && device.deviceId !== 'default');
  select.replaceChildren(
    new Option(devices.length ? `Default ${name}` : `No ${name} found`, ''),
    ...known.map((device, index) => new Option(device.label || `${name} ${index + 1}`, device.deviceId)),
  );
  select.value = known.some((device) => device.deviceId === wanted) ? wanted : '';
}
