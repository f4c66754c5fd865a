// @ts-check
// A chart that is as wide as its place and looks like the rest of the page.
import uPlot from "../vendor/uplot.js";
import { clock, day } from "../model/format.js";

export class Plot {
  /** @param {HTMLElement} box @param {number} height pixels @param {unknown[]} data @param {object} options of uPlot */
  constructor(box, height, data, options) {
    const width = () => Math.max(80, box.clientWidth);
    this.chart = new uPlot({ width: width(), height, legend: { show: false }, padding: [8, 30, 0, 0], ...options }, data, box);
    this.resize = new ResizeObserver(() => this.chart.setSize({ width: width(), height }));
    this.resize.observe(box);
  }

  destroy() {
    this.resize.disconnect();
    this.chart.destroy();
  }
}

/** How axes look here. @param {HTMLElement} box */
export function style(box) {
  const known = getComputedStyle(box);
  const paint = (/** @type {string} */ name) => known.getPropertyValue(name).trim();
  const grid = { stroke: paint("--rule"), width: 1 };
  return { paint, axis: { stroke: paint("--dim"), grid, ticks: { show: false }, font: `11px ${known.fontFamily}`, gap: 6 } };
}

/** An axis of time of day; where it goes over days, the day too. @param {object} axis */
export function clockAxis(axis) {
  return {
    ...axis,
    size: 24,
    space: 74,
    values: (/** @type {any} */ _, /** @type {number[]} */ values) => {
      // Ticks that are closer than a second need its parts.
      const fine = values.length > 1 && values[1] - values[0] < 1;
      if (fine) return values.map((value) => clock(new Date(value * 1000)).slice(3) + `.${String(Math.round((value % 1) * 1000)).padStart(3, "0")}`);
      const days = values.length > 1 && values[values.length - 1] - values[0] > 86_400;
      return values.map((value) => (days ? `${day(new Date(value * 1000)).slice(5)} ${clock(new Date(value * 1000)).slice(0, 5)}` : clock(new Date(value * 1000))));
    },
  };
}
