// Small live charts in SVG: the last minute of one quantity, in one or two series.

const SPAN_SECONDS = 60;
const WIDTH = 300;
const HEIGHT = 84;
const TOP = 6;
const SVG = 'http://www.w3.org/2000/svg';
/** A gap longer than this breaks the line instead of being bridged. */
const GAP_SECONDS = 3.5;

function element(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function svgElement(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

/** The next round number (1, 2 or 5 times a power of ten) that is not below `value`. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** @typedef {{unit: string, factor: number, digits: number}} Scale how values are written */

/** Bitrates, from kbit/s. */
export function rateScale(top) {
  if (top >= 10_000) return { unit: 'Mbit/s', factor: 0.001, digits: 1 };
  if (top >= 1000) return { unit: 'Mbit/s', factor: 0.001, digits: 2 };
  return { unit: 'kbit/s', factor: 1, digits: 0 };
}

/** One unit throughout; one digit after the point while the numbers are small. */
export function plainScale(unit, smallTop = 0) {
  return (top) => ({ unit, factor: 1, digits: top <= smallTop ? 1 : 0 });
}

export class LiveChart {
  /**
   * @param {HTMLElement} parent
   * @param {{id: string, title: string, smallestTop: number, scale: (top: number) => Scale,
   *   series: {key: string, name: string}[]}} options
   *   `key` is both the key of the values and the colour's name in the style sheet; `smallestTop`
   *   keeps the axis from magnifying noise; `scale` chooses unit and digits for the axis' top value.
   */
  constructor(parent, { id, title, smallestTop, scale, series }) {
    this.smallestTop = smallestTop;
    this.scale = scale;
    this.points = [];
    const root = element('figure', 'card chart');
    root.dataset.testid = `chart-${id}`;
    const head = element('figcaption');
    const heading = head.appendChild(element('span', 'chart-title', title));
    this.unit = heading.appendChild(element('small'));
    const values = head.appendChild(element('span', 'chart-values'));
    root.append(head);
    this.plot = root.appendChild(element('div', 'plot'));
    this.svg = this.plot.appendChild(svgElement('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }));
    for (const part of [0, 0.5, 1]) {
      const y = HEIGHT - part * (HEIGHT - TOP);
      this.svg.append(svgElement('path', { class: 'grid-line', d: `M0 ${y}H${WIDTH}` }));
    }
    this.series = series.map(({ key, name }) => {
      const box = values.appendChild(element('span', `chart-value ${key}`));
      const number = box.appendChild(element('b', '', '–'));
      if (series.length > 1) box.append(element('span', 'chart-name', name));
      number.dataset.testid = `value-${id}-${key}`;
      return {
        key,
        name,
        number,
        // Under two lines that mostly coincide, two areas would only be mud.
        area: series.length > 1 ? null : this.svg.appendChild(svgElement('path', { class: `area ${key}` })),
        line: this.svg.appendChild(svgElement('path', { class: `line ${key}` })),
        tip: this.svg.appendChild(svgElement('path', { class: `tip ${key}` })),
      };
    });
    this.topLabel = this.plot.appendChild(element('span', 'axis axis-top'));
    const foot = root.appendChild(element('div', 'axis-x'));
    foot.append(element('span', '', '60 s ago'), element('span', '', 'now'));
    this.#addReadout();
    parent.append(root);
    this.draw();
  }

  /** Adds one sample: seconds on any steady clock, and a number or null per series key. */
  add(seconds, values) {
    this.points.push({ seconds, values });
    while (this.points.length && this.points[0].seconds < seconds - SPAN_SECONDS - 2) this.points.shift();
    this.draw();
  }

  clear() {
    this.points = [];
    this.draw();
  }

  draw() {
    const now = this.points.at(-1)?.seconds ?? 0;
    const all = this.points.flatMap(({ values }) => this.series.map(({ key }) => values[key] ?? 0));
    const top = roundUp(Math.max(this.smallestTop, ...all));
    this.units = this.scale(top);
    const x = (seconds) => WIDTH - ((now - seconds) / SPAN_SECONDS) * WIDTH;
    const y = (value) => HEIGHT - (value / top) * (HEIGHT - TOP);
    for (const one of this.series) {
      const runs = this.#runs(one.key).map((run) => run.map(([seconds, value]) => [x(seconds), y(value)]));
      one.line.setAttribute('d', runs.map(lineThrough).join(''));
      one.area?.setAttribute('d', runs.map(areaUnder).join(''));
      const latest = this.points.at(-1)?.values[one.key] ?? null;
      const end = runs.at(-1)?.at(-1);
      one.tip.setAttribute('d', latest !== null && end ? `M${end[0].toFixed(1)} ${end[1].toFixed(1)}h0` : '');
      one.number.textContent = this.#text(latest);
    }
    this.unit.textContent = this.units.unit;
    this.topLabel.textContent = String(Number((top * this.units.factor).toFixed(3)));
    if (this.pointer !== undefined) this.#showReadout();
  }

  #text(value) {
    const { factor, digits } = this.units;
    return value === null ? '–' : (value * factor).toFixed(digits);
  }

  /** Stretches of neighbouring samples that have a value. */
  #runs(key) {
    const runs = [];
    let last = null;
    for (const { seconds, values } of this.points) {
      const value = values[key] ?? null;
      if (value === null) {
        last = null;
        continue;
      }
      if (last === null || seconds - last > GAP_SECONDS) runs.push([]);
      runs.at(-1).push([seconds, value]);
      last = seconds;
    }
    return runs;
  }

  /** Under the pointer: the values of that moment. */
  #addReadout() {
    this.cursor = this.svg.appendChild(svgElement('path', { class: 'cursor' }));
    this.readout = this.plot.appendChild(element('span', 'readout'));
    this.readout.hidden = true;
    this.plot.addEventListener('pointermove', (event) => {
      const box = this.plot.getBoundingClientRect();
      this.pointer = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      this.#showReadout();
    });
    this.plot.addEventListener('pointerleave', () => {
      this.pointer = undefined;
      this.readout.hidden = true;
      this.cursor.setAttribute('d', '');
    });
  }

  #showReadout() {
    const now = this.points.at(-1)?.seconds;
    if (now === undefined) return;
    const wanted = now - (1 - this.pointer) * SPAN_SECONDS;
    const nearest = this.points.reduce((best, point) => (
      Math.abs(point.seconds - wanted) < Math.abs(best.seconds - wanted) ? point : best));
    const at = WIDTH - ((now - nearest.seconds) / SPAN_SECONDS) * WIDTH;
    this.cursor.setAttribute('d', `M${at} ${TOP}V${HEIGHT}`);
    const values = this.series.map(({ key, name }) => {
      const text = this.#text(nearest.values[key] ?? null);
      return this.series.length > 1 ? `${name} ${text}` : text;
    });
    this.readout.textContent = `${Math.round(now - nearest.seconds)} s ago: ${values.join(', ')} ${this.units.unit}`;
    this.readout.hidden = false;
  }
}

function lineThrough(points) {
  return points.map(([x, y], index) => `${index ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');
}

function areaUnder(points) {
  if (points.length < 2) return '';
  return `${lineThrough(points)}V${HEIGHT}H${points[0][0].toFixed(1)}Z`;
}
