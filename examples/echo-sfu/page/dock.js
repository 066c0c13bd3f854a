// The bar of buttons that is there while camera or room are in use.

const byId = (id) => document.getElementById(id);

function paint(button, { on, icon, label, title }) {
  button.dataset.on = String(on);
  button.querySelector('use').setAttribute('href', `#${icon}`);
  button.querySelector('span').textContent = label;
  button.title = title;
}

export class Dock {
  constructor() {
    this.active = null;
    byId('mic-button').addEventListener('click', () => {
      const { media } = this.active;
      media.setMicrophone(!media.microphoneOn);
    });
    byId('camera-button').addEventListener('click', () => {
      const { media } = this.active;
      media.setCamera(!media.cameraOn);
    });
    byId('stop-button').addEventListener('click', () => this.active.stop());
    byId('leave-button').addEventListener('click', () => this.active.stop());
  }

  /** Shows the controls of what runs (the echo or a room), or hides them for null. */
  show(active) {
    this.active = active;
    byId('dock').hidden = !active;
    document.body.classList.toggle('has-dock', Boolean(active));
    if (!active) return;
    const { media, kind } = active;
    byId('stop-button').hidden = kind !== 'echo';
    byId('leave-button').hidden = kind !== 'room';
    byId('mic-button').hidden = !media?.hasMicrophone;
    byId('camera-button').hidden = !media?.hasCamera;
    if (!media) return;
    paint(byId('mic-button'), media.microphoneOn
      ? { on: true, icon: 'i-mic', label: 'Mute', title: 'Mute the microphone' }
      : { on: false, icon: 'i-mic-off', label: 'Unmute', title: 'Unmute the microphone' });
    paint(byId('camera-button'), media.cameraOn
      ? { on: true, icon: 'i-camera', label: 'Camera off', title: 'Turn the camera off' }
      : { on: false, icon: 'i-camera-off', label: 'Camera on', title: 'Turn the camera on' });
  }
}
