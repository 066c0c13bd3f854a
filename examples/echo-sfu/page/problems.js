// What can go wrong, in words: what happened and what the person in front of the page can do.
// Back-quoted parts of the texts are shown as code.

/** A failure told to a person. `code` is stable and meant for tests. */
export class Problem extends Error {
  /**
   * @param {string} code stable short name
   * @param {string} title what went wrong, in a few words
   * @param {string|string[]} advice what to do: one paragraph, or a list of things to try
   * @param {{details?: string, retryAfter?: number, fatal?: boolean}} more
   *   `details`: technical words for whoever debugs; `retryAfter`: seconds the server asked us to
   *   wait; `fatal`: trying the same again cannot help.
   */
  constructor(code, title, advice, { details = '', retryAfter = 0, fatal = false } = {}) {
    super(title);
    this.code = code;
    this.title = title;
    this.advice = advice;
    this.details = details;
    this.retryAfter = retryAfter;
    this.fatal = fatal;
  }
}

/** Any thrown value as a Problem. */
export function asProblem(error) {
  if (error instanceof Problem) return error;
  return new Problem('unexpected', 'Something unexpected happened',
    'Try again. If it comes back, the words below help whoever looks into it.',
    { details: technical(error) });
}

function technical(error) {
  return error?.name ? `${error.name}: ${error.message}` : String(error);
}

// ---- This browser -------------------------------------------------------------------------------

export function noWebRtc() {
  return new Problem('no-webrtc', 'This browser has no WebRTC',
    'It may be switched off by a setting, a policy or an extension. Try a current Chrome, Edge, Firefox or Safari.',
    { fatal: true });
}

/** `getUserMedia` is missing: an insecure page, or a browser without it. */
export function noMediaDevices() {
  if (window.isSecureContext) {
    return new Problem('no-media-devices', 'This browser cannot open a camera',
      'Try a current Chrome, Edge, Firefox or Safari. Inside another app, open this page in the real browser.',
      { fatal: true });
  }
  const port = location.port ? `:${location.port}` : '';
  return new Problem('insecure-context', 'The browser keeps the camera from this page',
    [`Browsers open cameras only on \`https://\` pages and on \`localhost\`. This page came from \`${location.origin}\`.`,
      `On the machine that runs the server, open \`http://localhost${port}\`.`,
      'For other machines and phones, start the server with `--tls-self-signed --http 0.0.0.0:8080` and open its `https://` address.',
      'Watching a room works here as it is.'],
    { fatal: true });
}

// ---- Camera and microphone ----------------------------------------------------------------------

export function noCamera() {
  return new Problem('no-camera', 'No camera found',
    'Plug one in, or check that it is not switched off or covered by a privacy switch. There is a microphone: an echo of sound alone works too.');
}

export function noDevices() {
  return new Problem('no-devices', 'No camera and no microphone found',
    'Plug one in and try again. If there is one, check that the operating system lets this browser use it.');
}

/** The words for an error that `getUserMedia` threw. */
export function mediaProblem(error) {
  const details = technical(error);
  const system = /system/i.test(error.message);
  switch (error.name) {
    case 'NotAllowedError':
    case 'SecurityError':
      if (/dismissed/i.test(error.message)) {
        return new Problem('permission-dismissed', 'The question was closed without an answer',
          'Press the button again and choose “Allow” when the browser asks.', { details });
      }
      return new Problem('permission-denied', 'Camera or microphone not allowed',
        system
          ? ['The operating system does not let this browser use them.',
            'macOS: System Settings › Privacy & Security › Camera, and Microphone. Windows: Settings › Privacy. Then restart the browser.']
          : ['Press the camera or lock symbol in the address bar, allow camera and microphone for this page, and try again.',
            'If the browser never asks, look for this page in its site settings.'],
        { details });
    case 'NotReadableError':
    case 'AbortError':
      return new Problem('device-in-use', 'The camera or microphone is busy',
        'Another program or tab probably uses it. Close it there (video calls, camera apps), then try again.', { details });
    case 'NotFoundError':
    case 'DevicesNotFoundError':
      return new Problem('no-devices', 'The camera or microphone was not found',
        'It may just have been unplugged. Plug it in, or choose another one in the settings.', { details });
    case 'OverconstrainedError':
      return new Problem('device-gone', 'The chosen device cannot be used',
        'Choose another camera or microphone in the settings.', { details });
    default:
      return new Problem('media-failed', 'The camera or microphone did not start',
        'Try again, or choose another device in the settings.', { details });
  }
}

export function deviceEnded(kind) {
  const what = kind === 'video' ? 'camera' : 'microphone';
  return new Problem('device-gone', `The ${what} went away`,
    `It was unplugged, or the browser withdrew the permission. Choose another ${what} in the settings, or switch it on again.`);
}

// ---- Server -------------------------------------------------------------------------------------

export function noCommonCodec(details = '') {
  return new Problem('no-common-codec', 'Browser and server share no codec',
    'The server does not forward the video codec this page asked for. Choose another one in the settings.',
    { details, fatal: true });
}

export function serverUnreachable(error) {
  return new Problem('server-unreachable', 'The server does not answer',
    'It may have been stopped, or the network between is down. Check that it runs; this page keeps trying.',
    { details: error ? technical(error) : '' });
}

/** The words for an error status; `text` is the sentence in the server's body. */
export function responseProblem(status, text, retryAfter) {
  const details = `HTTP ${status}${text ? `: ${text}` : ''}`;
  switch (status) {
    case 404:
      return new Problem('not-found', 'It is not there any more',
        'The publisher or room has gone from the server.', { details });
    case 406:
      return noCommonCodec(details);
    case 503:
      return new Problem('server-full', 'The server is full',
        retryAfter ? `It asks to try again in ${retryAfter} s, and this page does so by itself.`
          : 'It takes no more sessions now. This page tries again by itself.',
        { details, retryAfter });
    case 400: case 413: case 415: case 422:
      return new Problem('offer-refused', 'The server refused the request',
        'It did not understand what this browser offered. The words below say why.', { details, fatal: true });
    default:
      return new Problem('server-error', 'The server had a problem',
        'This page tries again by itself. The log of the server may say more.', { details, retryAfter });
  }
}

// ---- The path for media -------------------------------------------------------------------------

export function udpBlocked(remoteAddresses) {
  const where = remoteAddresses.length ? `\`${remoteAddresses.join('`, `')}\`` : 'the address it announced';
  return new Problem('udp-blocked', 'No media gets through',
    [`The page is reachable over HTTP, but nothing comes back over UDP from ${where}.`,
      'A firewall may block that UDP port: open it on the server, and on networks that filter UDP try another network.',
      'If that address cannot be reached from here (a container, a cloud machine, a NAT), start the server with `--announce` and the address that can.'],
    { details: 'ICE found no working candidate pair' });
}

export function secureHandshakeFailed() {
  return new Problem('dtls-failed', 'The encrypted connection could not be set up',
    'UDP gets through, but the DTLS handshake failed. Try again; if it comes back, look at the log of the server.');
}

export function connectionLost() {
  return new Problem('connection-lost', 'The connection was lost',
    'The server answers over HTTP, but media stopped: it may have restarted, or the network changed. This page reconnects by itself.');
}

// ---- Ways out -----------------------------------------------------------------------------------

/** What the error box offers when camera or microphone did not open. */
export function mediaWaysOut(problem, { retry, soundOnly, watch }) {
  const actions = [];
  const withoutCamera = { id: 'sound-only', label: 'Sound only', run: soundOnly };
  if (problem.code === 'no-camera') actions.push(withoutCamera);
  if (!problem.fatal) actions.push({ id: 'retry', label: 'Try again', run: retry });
  if (problem.code === 'device-in-use') actions.push(withoutCamera);
  actions.push({ id: 'watch', label: 'Only watch a room', run: watch });
  return actions;
}

/** What the error box offers when the connection to the server failed. */
export function connectionWaysOut(problem, { retry, automaticCodec }) {
  if (problem.code === 'no-common-codec') return [{ id: 'automatic-codec', label: 'Use the automatic codec', run: automaticCodec }];
  return [{ id: 'retry', label: 'Try now', run: retry }];
}
