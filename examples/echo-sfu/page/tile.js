// One person in the grid of a room: picture, name, and a word on how it is going.

import { LevelMeter } from './levels.js';

/** The same name gets the same colour on every screen. */
function hueOf(name) {
  return [...name].reduce((hash, letter) => (hash * 31 + letter.codePointAt(0)) % 360, 7);
}

export class Tile {
  /** @param {HTMLElement} grid @param {{name: string, self?: boolean, id?: string}} person */
  constructor(grid, { name, self = false, id = '' }) {
    this.root = document.getElementById('tile-template').content.firstElementChild.cloneNode(true);
    const part = (selector) => this.root.querySelector(selector);
    this.video = part('video');
    this.message = part('.tile-message');
    this.stats = part('.tile-stats');
    this.soundButton = part('.tile-sound');
    this.root.classList.toggle('is-self', self);
    this.root.dataset.testid = self ? 'self-tile' : 'remote-tile';
    if (id) this.root.dataset.publisherId = id;
    if (self) this.video.id = 'room-self-video';
    part('.tile-name').textContent = name;
    const avatar = part('.avatar');
    avatar.textContent = [...name][0]?.toUpperCase() ?? '?';
    avatar.style.setProperty('--hue', hueOf(name));
    this.video.setAttribute('aria-label', self ? 'Your camera' : `Camera of ${name}`);
    this.name = name;
    this.video.muted = self;
    this.soundButton.hidden = true;
    this.soundButton.addEventListener('click', () => this.#setSound(this.video.muted));
    this.setPicture(false);
    grid.append(this.root);
  }

  /** Whether the picture is to be seen; otherwise the initial stands in. */
  setPicture(visible) {
    this.root.classList.toggle('no-picture', !visible);
  }

  setMessage(text) {
    if (this.message.textContent !== text) this.message.textContent = text;
    this.message.hidden = !text;
  }

  setState(state) {
    this.root.dataset.state = state;
  }

  /** Plays a stream. A page nobody has clicked on may not make sound; then it starts silent. */
  async play(stream) {
    this.video.srcObject = stream;
    try {
      await this.video.play();
    } catch (error) {
      if (error.name !== 'NotAllowedError') return;
      this.#setSound(false);
      this.video.play().catch(() => {});
    }
  }

  /** Call when the stream has sound: shows how loud it is, and for others a way to silence it. */
  hearStream(stream) {
    this.soundButton.hidden = this.root.classList.contains('is-self');
    this.#setSound(!this.video.muted);
    this.meter?.stop();
    this.meter = new LevelMeter(stream, (level) => this.root.style.setProperty('--level', level.toFixed(2)));
  }

  remove() {
    this.meter?.stop();
    this.video.srcObject = null;
    this.root.remove();
  }

  #setSound(on) {
    this.video.muted = !on;
    this.soundButton.querySelector('use').setAttribute('href', on ? '#i-sound' : '#i-sound-off');
    const label = on ? `Mute ${this.name}` : `Unmute ${this.name}`;
    this.soundButton.setAttribute('aria-label', label);
    this.soundButton.title = label;
  }
}
