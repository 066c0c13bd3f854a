// RTCPeerConnections without the SFU's page around them. Tests call these functions by name.

const connections = new Map();

/** The browser's camera and microphone, small enough for several encoders on one machine. */
function camera({ width = 320, height = 240, frameRate = 15 } = {}) {
  return navigator.mediaDevices.getUserMedia({ audio: true, video: { width, height, frameRate } });
}

/** A picture of one colour, which `paint` changes, and the microphone. */
async function canvas() {
  const node = document.createElement('canvas');
  [node.width, node.height] = [320, 240];
  const context = node.getContext('2d');
  canvas.colour = 'black';
  setInterval(() => {
    context.fillStyle = canvas.colour;
    context.fillRect(0, 0, node.width, node.height);
  }, 50);
  const [microphone] = (await camera()).getAudioTracks();
  return new MediaStream([microphone, ...node.captureStream().getTracks()]);
}

function paint(colour) {
  canvas.colour = colour;
}

/**
 * Connects to an endpoint of the SFU.
 * @param {{url: string, direction: string, source?: 'camera'|'canvas', codec?: string,
 *   layers?: number, trickle?: boolean}} wish `codec` such as VP8: no other is offered
 * @returns {Promise<{id: number, publisher: string|null}>}
 */
async function connect({ url, direction, source, codec, layers, trickle = false }) {
  // Chromium makes layers of larger pictures only.
  const size = layers ? { width: 640, height: 360 } : {};
  const stream = source && await { camera, canvas }[source](size);
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  const video = document.body.appendChild(document.createElement('video'));
  // Not muted: Chromium measures the energy of what it plays only.
  Object.assign(video, { autoplay: true, srcObject: new MediaStream() });
  const connection = { pc, video, stream, startedAt: performance.now(), firstKeyFrameMs: null, trickled: [] };
  pc.ontrack = ({ track }) => video.srcObject.addTrack(track);
  for (const kind of ['audio', 'video']) {
    const track = stream?.getTracks().find((one) => one.kind === kind);
    const sendEncodings = kind === 'video' && layers ? encodings(layers) : undefined;
    const transceiver = pc.addTransceiver(track ?? kind, { direction, ...(sendEncodings && { sendEncodings }) });
    if (kind === 'video' && codec) transceiver.setCodecPreferences(only(codec));
  }
  const candidates = [];
  let announce = (candidate) => candidates.push(candidate);
  if (trickle) pc.onicecandidate = ({ candidate }) => announce(candidate);

  await pc.setLocalDescription();
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp' },
    body: pc.localDescription.sdp,
  });
  if (response.status !== 201) throw new Error(`${response.status}: ${await response.text()}`);
  connection.location = new URL(response.headers.get('Location'), response.url).href;
  connection.entityTag = response.headers.get('ETag');
  await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
  announce = (candidate) => patch(connection, candidate);
  candidates.forEach(announce);

  const watch = setInterval(async () => {
    const { keyFramesDecoded } = await measure(connection);
    if (keyFramesDecoded === 0 && pc.connectionState !== 'closed') return;
    connection.firstKeyFrameMs ??= performance.now() - connection.startedAt;
    clearInterval(watch);
  }, 20);
  const id = connections.size + 1;
  connections.set(id, connection);
  return { id, publisher: response.headers.get('Publisher-Id') };
}

/** So many layers, each with half the width of the next. */
function encodings(layers) {
  const rids = ['q', 'h', 'f'].slice(-layers);
  return rids.map((rid, i) => ({ rid, scaleResolutionDownBy: 2 ** (layers - 1 - i) }));
}

/** What the browser can encode of a codec, and retransmission. */
function only(codec) {
  const { codecs } = RTCRtpSender.getCapabilities('video');
  const wanted = codecs.filter(({ mimeType }) => mimeType === `video/${codec}`);
  if (wanted.length === 0) throw new Error(`this browser cannot encode ${codec}`);
  return [...wanted, ...codecs.filter(({ mimeType }) => mimeType === 'video/rtx')];
}

/** Sends a candidate, or the end of them (null), as RFC 9725 has it. */
async function patch({ pc, location, entityTag, trickled }, candidate) {
  const { sdp } = pc.localDescription;
  const line = (pattern) => sdp.match(pattern)[0];
  const fragment = [
    line(/^a=ice-ufrag:.*$/m), line(/^a=ice-pwd:.*$/m), line(/^m=.*$/m), line(/^a=mid:.*$/m),
    candidate?.candidate ? `a=${candidate.candidate}` : 'a=end-of-candidates',
  ];
  const { status } = await fetch(location, {
    method: 'PATCH',
    headers: { 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': entityTag },
    body: fragment.map((text) => `${text.trim()}\r\n`).join(''),
  });
  trickled.push(status);
}

/** The counters of a connection, over all its tracks. */
async function measure({ pc, firstKeyFrameMs, trickled }) {
  const measured = {
    connectionState: pc.connectionState, firstKeyFrameMs, trickled,
    timeMs: 0, videoCodec: null,
    framesEncoded: 0, keyFramesEncoded: 0, keyFramesAskedFor: 0,
    framesDecoded: 0, keyFramesDecoded: 0,
    audioPackets: 0, audioSamples: 0, audioEnergy: 0,
  };
  const report = await pc.getStats();
  for (const stat of report.values()) {
    measured.timeMs = Math.max(measured.timeMs, stat.timestamp);
    if (stat.type === 'outbound-rtp' && stat.kind === 'video') {
      measured.framesEncoded += stat.framesEncoded ?? 0;
      measured.keyFramesEncoded += stat.keyFramesEncoded ?? 0;
      measured.keyFramesAskedFor += (stat.pliCount ?? 0) + (stat.firCount ?? 0);
      measured.videoCodec ??= codecName(report, stat);
    } else if (stat.type === 'inbound-rtp' && stat.kind === 'video') {
      measured.framesDecoded += stat.framesDecoded ?? 0;
      measured.keyFramesDecoded += stat.keyFramesDecoded ?? 0;
      measured.videoCodec = codecName(report, stat) ?? measured.videoCodec;
    } else if (stat.type === 'inbound-rtp' && stat.kind === 'audio') {
      measured.audioPackets += stat.packetsReceived ?? 0;
      measured.audioSamples += stat.totalSamplesReceived ?? 0;
      measured.audioEnergy += stat.totalAudioEnergy ?? 0;
    }
  }
  return measured;
}

function codecName(report, { codecId }) {
  return report.get(codecId)?.mimeType.replace('video/', '') ?? null;
}

function look(id) {
  return measure(connections.get(id));
}

/** The average colour of what is received: [red, green, blue], each 0 to 255. */
function colour(id) {
  const node = document.createElement('canvas');
  [node.width, node.height] = [16, 12];
  const context = node.getContext('2d');
  context.drawImage(connections.get(id).video, 0, 0, node.width, node.height);
  const { data } = context.getImageData(0, 0, node.width, node.height);
  const mean = (channel) => data.filter((_, i) => i % 4 === channel).reduce((a, b) => a + b, 0) / (data.length / 4);
  return [mean(0), mean(1), mean(2)];
}

/** Has the server pause a session, or resume it; returns the status. */
async function control(id, what) {
  const { status } = await fetch(`${connections.get(id).location}/${what}`, { method: 'POST' });
  return status;
}

/** Ends a session in good order; returns the status of the DELETE. */
async function leave(id) {
  const { pc, location, stream } = connections.get(id);
  // Before the connection closes: DTLS says goodbye as well, and a session that has gone is a 404.
  const { status } = await fetch(location, { method: 'DELETE' });
  pc.close();
  stream?.getTracks().forEach((track) => track.stop());
  return status;
}
