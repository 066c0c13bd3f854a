// The way into a room: its name, your name, the link to pass on, and who is already there.

import { readRoom } from './signaling.js';
import { recall, remember } from './settings.js';

const ROOM_NAME = /^[A-Za-z0-9_-]{1,64}$/;
const LOOK_DELAY_MS = 500;
const byId = (id) => document.getElementById(id);

/** The room named in the page's address: ?room=lobby or #room=lobby. */
export function roomFromAddress() {
  return new URLSearchParams(location.search).get('room')
    ?? new URLSearchParams(location.hash.slice(1)).get('room');
}

export class Lobby {
  /** @param {{onJoin(wish: object): void}} handlers */
  constructor({ onJoin }) {
    this.room = byId('room-input');
    this.name = byId('name-input');
    this.watchOnly = byId('watch-only');
    this.hint = byId('room-hint');
    this.name.value = recall('name');
    this.room.value = roomFromAddress() ?? (recall('room') || 'lobby');
    this.room.addEventListener('input', () => {
      // People write names with spaces; rooms have none.
      this.room.value = this.room.value.replace(/\s/g, '-');
      this.look();
    });
    byId('join-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit(onJoin);
    });
    byId('copy-button').addEventListener('click', () => this.#copy());
    byId('share-link').addEventListener('focus', (event) => event.currentTarget.select());
  }

  setRoom(room) {
    this.room.value = room;
    this.look();
  }

  /** Says who is in the room that is typed, a moment after the typing stopped. */
  look() {
    clearTimeout(this.timer);
    if (!this.#check()) return;
    this.hint.textContent = 'Letters, digits, - and _.';
    const room = this.room.value;
    this.timer = setTimeout(async () => {
      const info = await readRoom(room).catch(() => null);
      if (info && room === this.room.value) this.hint.textContent = whoIsThere(info.publishers);
    }, LOOK_DELAY_MS);
  }

  #check() {
    const good = ROOM_NAME.test(this.room.value);
    this.room.setAttribute('aria-invalid', String(!good));
    if (!good) {
      this.hint.textContent = this.room.value
        ? 'A room name has only letters A–Z, digits, - and _, at most 64 of them.'
        : 'Give the room a name.';
    }
    return good;
  }

  #submit(onJoin) {
    if (!this.#check()) {
      this.room.focus();
      return;
    }
    const room = this.room.value;
    const displayName = this.name.value.trim();
    remember('room', room);
    remember('name', displayName);
    history.replaceState(null, '', `?room=${encodeURIComponent(room)}`);
    onJoin({ room, displayName, watchOnly: this.watchOnly.checked });
  }

  async #copy() {
    const link = byId('share-link');
    const label = byId('copy-button').querySelector('span');
    try {
      await navigator.clipboard.writeText(link.value);
      label.textContent = 'Copied';
    } catch {
      // No clipboard on insecure pages: select the link, so that one key does the rest.
      link.focus();
      link.select();
      label.textContent = 'Press Ctrl+C';
    }
    setTimeout(() => { label.textContent = 'Copy link'; }, 2500);
  }
}

function whoIsThere(publishers) {
  if (publishers.length === 0) return 'Nobody is in this room yet.';
  const names = publishers.slice(0, 3).map(({ name }) => name || 'Guest');
  const more = publishers.length - names.length;
  return `In this room now: ${names.join(', ')}${more ? ` and ${more} more` : ''}.`;
}
