// The choice of a video codec, by what the browser can do.

/** What a person can choose; the key is the codec's name in SDP. */
export const CODECS = { auto: 'Automatic', VP8: 'VP8', VP9: 'VP9', H264: 'H.264', AV1: 'AV1' };

/** Not media themselves, but what repairs it. */
const REPAIR = ['rtx', 'red', 'ulpfec', 'flexfec-03'];

function videoCodecs() {
  return window.RTCRtpReceiver?.getCapabilities?.('video')?.codecs ?? [];
}

const codecName = (codec) => codec.mimeType.split('/')[1];

export function isSupported(choice) {
  return choice === 'auto' || videoCodecs().some((codec) => codecName(codec).toUpperCase() === choice);
}

/** Restricts a video transceiver to the chosen codec, so that what is chosen is what is measured. */
export function preferCodec(transceiver, choice) {
  if (choice === 'auto' || !isSupported(choice) || !transceiver.setCodecPreferences) return;
  transceiver.setCodecPreferences(videoCodecs().filter((codec) => {
    const name = codecName(codec);
    return name.toUpperCase() === choice || REPAIR.includes(name.toLowerCase());
  }));
}
