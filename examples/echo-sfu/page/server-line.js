// One line about the server at the foot of the page.

import { readServerStats } from './signaling.js';

const EVERY_MS = 5000;

const plural = (count, word) => `${count} ${word}${count === 1 ? '' : 's'}`;

/** Keeps the line true while the page is looked at. */
export function watchServer(line) {
  const look = async () => {
    if (!document.hidden) {
      try {
        const { sessions, rooms } = await readServerStats();
        tell(line, true, `Server up · ${plural(sessions, 'session')} · ${plural(rooms, 'room')}`);
      } catch (problem) {
        tell(line, false, problem.title);
      }
    }
    setTimeout(look, EVERY_MS);
  };
  look();
}

function tell(line, up, text) {
  line.dataset.up = String(up);
  if (line.textContent !== text) line.textContent = text;
}
