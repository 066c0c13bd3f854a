// getStats() in plain numbers: what happened on one connection since the last look.

/** Counters of one direction, summed over audio and video. */
function emptyTotals() {
  return { bytes: 0, packets: 0, lost: 0, frames: 0 };
}

export class StatsSampler {
  constructor(pc) {
    this.pc = pc;
    this.last = null;
  }

  /**
   * One sample. Rates are null until there is an earlier look to compare with, and where there is
   * no such media.
   */
  async sample() {
    const report = await this.pc.getStats();
    const now = read(report);
    const seconds = this.last ? (now.time - this.last.time) / 1000 : 0;
    const sample = {
      time: now.time,
      rttMs: now.rttMs,
      pair: now.pair,
      out: { ...now.outDetails, ...ratesBetween(this.last?.out, now.out, seconds) },
      back: { ...now.backDetails, ...ratesBetween(this.last?.back, now.back, seconds) },
    };
    this.last = now;
    return sample;
  }
}

function ratesBetween(before, after, seconds) {
  if (!before || seconds <= 0) return { kbps: null, fps: null, lossPercent: null };
  const delta = (key) => Math.max(0, after[key] - before[key]);
  const expected = delta('packets') + (after.lostIsExtra ? delta('lost') : 0);
  return {
    kbps: (delta('bytes') * 8) / 1000 / seconds,
    fps: after.hasVideo ? delta('frames') / seconds : null,
    lossPercent: expected > 0 ? Math.min(100, (delta('lost') / expected) * 100) : null,
  };
}

function read(report) {
  const out = { ...emptyTotals(), hasVideo: false, lostIsExtra: false };
  // Lost packets are not among the received ones, but are among the sent ones.
  const back = { ...emptyTotals(), hasVideo: false, lostIsExtra: true };
  const outDetails = { framesSent: 0, codec: null, audioCodec: null, width: 0, height: 0, limitedBy: null, bytes: 0 };
  const backDetails = {
    framesDecoded: 0, codec: null, audioCodec: null, width: 0, height: 0, bytes: 0, audioBytes: 0, bufferMs: null,
  };
  const mediaRtts = [];
  let time = 0;
  const codecOf = (stat) => report.get(stat.codecId)?.mimeType?.split('/')[1] ?? null;

  for (const stat of report.values()) {
    time = Math.max(time, stat.timestamp);
    if (stat.type === 'outbound-rtp') {
      out.bytes += stat.bytesSent ?? 0;
      out.packets += stat.packetsSent ?? 0;
      if (stat.kind === 'video') {
        out.hasVideo = true;
        // Of several layers, the largest that is sent is what counts.
        out.frames = Math.max(out.frames, stat.framesSent ?? stat.framesEncoded ?? 0);
        if ((stat.frameWidth ?? 0) >= (outDetails.width ?? 0)) {
          outDetails.codec = codecOf(stat);
          outDetails.width = stat.frameWidth ?? 0;
          outDetails.height = stat.frameHeight ?? 0;
          outDetails.limitedBy = stat.qualityLimitationReason ?? null;
        }
      } else {
        outDetails.audioCodec = codecOf(stat);
      }
    } else if (stat.type === 'remote-inbound-rtp') {
      out.lost += stat.packetsLost ?? 0;
      if (stat.roundTripTimeMeasurements !== 0 && stat.roundTripTime !== undefined) mediaRtts.push(stat.roundTripTime);
    } else if (stat.type === 'inbound-rtp') {
      back.bytes += stat.bytesReceived ?? 0;
      back.packets += stat.packetsReceived ?? 0;
      back.lost += stat.packetsLost ?? 0;
      if (stat.kind === 'video') {
        back.hasVideo = true;
        back.frames += stat.framesDecoded ?? 0;
        backDetails.codec = codecOf(stat);
        backDetails.width = stat.frameWidth ?? 0;
        backDetails.height = stat.frameHeight ?? 0;
        backDetails.bufferMs = bufferMs(stat);
      } else {
        backDetails.audioCodec = codecOf(stat);
        backDetails.audioBytes += stat.bytesReceived ?? 0;
        backDetails.bufferMs ??= bufferMs(stat);
      }
    }
  }
  outDetails.framesSent = out.frames;
  outDetails.bytes = out.bytes;
  backDetails.framesDecoded = back.frames;
  backDetails.bytes = back.bytes;

  const pair = selectedPair(report);
  return { time, out, back, outDetails, backDetails, pair, rttMs: roundTripMs(mediaRtts, pair) };
}

/** RTCP measures every second on packets of media; STUN checks only every few seconds. */
function roundTripMs(mediaRtts, pair) {
  if (mediaRtts.length) return Math.min(...mediaRtts) * 1000;
  return pair?.rttSeconds === undefined ? null : pair.rttSeconds * 1000;
}

function bufferMs(stat) {
  if (!stat.jitterBufferEmittedCount) return null;
  return (stat.jitterBufferDelay / stat.jitterBufferEmittedCount) * 1000;
}

function selectedPair(report) {
  const all = [...report.values()];
  const transport = all.find((stat) => stat.type === 'transport' && stat.selectedCandidatePairId);
  const pair = transport
    ? report.get(transport.selectedCandidatePairId)
    : all.find((stat) => stat.type === 'candidate-pair' && (stat.selected || (stat.nominated && stat.state === 'succeeded')));
  if (!pair) return null;
  const local = report.get(pair.localCandidateId);
  const remote = report.get(pair.remoteCandidateId);
  return {
    rttSeconds: pair.currentRoundTripTime,
    local: describeCandidate(local),
    remote: describeCandidate(remote),
    protocol: local?.protocol ?? remote?.protocol ?? 'udp',
  };
}

/** Browsers hide the addresses of local candidates until the camera is allowed. */
function describeCandidate(candidate) {
  if (!candidate) return 'unknown';
  const address = candidate.address || candidate.ip;
  if (!address) return candidate.candidateType;
  return `${address.includes(':') ? `[${address}]` : address}:${candidate.port} (${candidate.candidateType})`;
}

/** A bitrate in words. */
export function formatRate(kbps) {
  return kbps >= 1000 ? `${(kbps / 1000).toFixed(kbps >= 10_000 ? 0 : 1)} Mbit/s` : `${kbps.toFixed(0)} kbit/s`;
}
