// What the page says: the status line at the top and the error box.

const byId = (id) => document.getElementById(id);

/** Text in which back-quoted parts become code. */
function withCode(text) {
  return text.split('`').map((part, index) => {
    if (index % 2 === 0) return document.createTextNode(part);
    const code = document.createElement('code');
    code.textContent = part;
    return code;
  });
}

export class Notices {
  /** @param {{status: string, error: object|null}} state where tests can read what is shown */
  constructor(state) {
    this.state = state;
    this.scope = null;
    this.dismissed = null;
    byId('error-dismiss').addEventListener('click', () => {
      const dismissed = { scope: this.scope, code: this.state.error.code };
      this.clear();
      this.dismissed = dismissed;
    });
  }

  /** @param {string} status idle, starting, connecting, connected, reconnecting or failed */
  status(status, text) {
    this.state.status = status;
    byId('status').dataset.kind = status;
    const line = byId('status-text');
    if (line.textContent !== text) line.textContent = text;
  }

  /**
   * Shows a problem. One is shown at a time, the latest.
   * @param {Problem} problem
   * @param {{scope: string, actions?: {id: string, label: string, run: () => void}[]}} options
   *   `scope`: what must come right for the message to go away by itself
   */
  show(problem, { scope, actions = [] }) {
    // Who has read it need not see it again at every retry.
    if (this.dismissed?.code === problem.code) return;
    const same = this.state.error?.code === problem.code && this.state.error.details === problem.details;
    this.scope = scope;
    const { code, title, advice, details } = problem;
    this.state.error = { code, title, text: [advice].flat().join(' ').replaceAll('`', ''), details };
    // Repeating an alert word by word on every retry would only be noise, to screen readers above all.
    if (same && !byId('error-box').hidden) return;
    byId('error-title').textContent = title;
    byId('error-text').replaceChildren(...adviceNodes(advice));
    byId('error-details').textContent = details;
    byId('error-details').hidden = !details;
    byId('error-actions').replaceChildren(...actions.map((action) => this.#button(action)));
    byId('error-box').hidden = false;
    byId('error-box').dataset.code = code;
  }

  /** Takes the message away; with a scope, only a message of that scope. */
  clear(scope = null) {
    if (scope === null || scope === this.dismissed?.scope) this.dismissed = null;
    if (scope !== null && scope !== this.scope) return;
    this.scope = null;
    this.state.error = null;
    byId('error-box').hidden = true;
  }

  #button({ id, label, run }) {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = label;
    button.dataset.testid = `error-action-${id}`;
    button.addEventListener('click', () => {
      this.clear();
      run();
    });
    return button;
  }
}

function adviceNodes(advice) {
  if (Array.isArray(advice)) {
    const list = document.createElement('ul');
    for (const item of advice) {
      const entry = document.createElement('li');
      entry.append(...withCode(item));
      list.append(entry);
    }
    return [list];
  }
  const paragraph = document.createElement('p');
  paragraph.append(...withCode(advice));
  return [paragraph];
}
