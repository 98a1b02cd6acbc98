// The last five minutes as a chart, drawn by hand: areas that add up, or lines side by side. It is read with a pointer, or
// as a slider with the arrow keys; beside it stand a sentence and, on demand, a table.

const WINDOW_MS = 300_000;
const GAP_MS = 3500; // a longer silence is a gap, not a slope
const TABLE_STEP_MS = 30_000;
const MARGIN = { left: 46, right: 8, top: 8, bottom: 22 };

/** The lowest of 1, 2, 5, 10, 20, … that makes at most four steps up to `max`. */
function niceStep(max) {
  let step = 1;
  for (let factor = 0; step * 4 < max; factor += 1) step = [2, 5, 10][factor % 3] * 10 ** Math.floor(factor / 3);
  return step;
}

class Chart {
  /** `stacked`: the series add up to the points' total. `format` writes a value. `what` names the figures. */
  constructor(host, { what, stacked, format, summary, table }) {
    Object.assign(this, { host, what, stacked, format, summary, table });
    this.points = []; // { t, total, values: { key: number } | null }, oldest first
    this.series = []; // { key, name, colour 1–8 }
    this.now = 0;
    this.cursorAt = null;
    this.width = 0;
    this.build();
    new ResizeObserver(() => this.draw()).observe(host);
    this.listen();
  }

  build() {
    this.grid = svg('g');
    this.layers = svg('g');
    this.outline = svg('path', { class: 'top-line' });
    this.cursor = svg('line', { class: 'cursor', y1: MARGIN.top, visibility: 'hidden' });
    this.axis = svg('g');
    this.canvas = svg('svg', { 'aria-hidden': 'true', focusable: 'false' }, this.grid, this.layers, this.outline, this.axis, this.cursor);
    this.tip = el('div', { class: 'tip', hidden: true });
    this.host.append(this.canvas, this.tip);
    adorn(this.host, {
      role: 'slider', tabindex: 0, 'aria-label': `${this.what}, last 5 minutes`, 'aria-roledescription': 'chart',
      'aria-orientation': 'horizontal', 'aria-valuemin': -300, 'aria-valuemax': 0, 'aria-valuenow': 0,
      'aria-describedby': this.summary.id,
    }, []);
  }

  listen() {
    const read = (event) => {
      const x = event.clientX - this.canvas.getBoundingClientRect().left;
      const t = this.now - WINDOW_MS + ((x - MARGIN.left) / this.plotWidth()) * WINDOW_MS;
      this.read(this.nearest(t));
    };
    this.host.addEventListener('pointermove', read);
    this.host.addEventListener('pointerdown', read);
    this.host.addEventListener('pointerleave', () => this.read(null));
    this.host.addEventListener('blur', () => this.read(null));
    this.host.addEventListener('focus', () => this.host.matches(':focus-visible') && this.read(this.points.length - 1));
    this.host.addEventListener('keydown', (event) => this.key(event));
    this.table.addEventListener('toggle', () => this.tabulate());
  }

  key(event) {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -30, PageUp: 30, Home: -1e9, End: 1e9 };
    if (event.key === 'Escape') return this.read(null);
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return undefined;
    event.preventDefault();
    const at = this.cursorAt === null ? this.points.length - 1 : this.nearest(this.cursorAt);
    return this.read(Math.min(this.points.length - 1, Math.max(0, at + steps[event.key])));
  }

  plotWidth() { return Math.max(1, this.width - MARGIN.left - MARGIN.right); }
  x(t) { return MARGIN.left + (1 - (this.now - t) / WINDOW_MS) * this.plotWidth(); }
  y(value) { return this.height - MARGIN.bottom - (value / this.top) * (this.height - MARGIN.top - MARGIN.bottom); }

  nearest(t) {
    let best = -1;
    for (let i = 0; i < this.points.length; i += 1) {
      if (best < 0 || Math.abs(this.points[i].t - t) < Math.abs(this.points[best].t - t)) best = i;
    }
    return best;
  }

  /** Shows these points; the right edge is `now`, which is said to be so only if the figures are `fresh`. */
  show(points, series, now, fresh) {
    this.fresh = fresh;
    this.points = points.filter((point) => point.t >= now - WINDOW_MS && point.t <= now + 1500);
    this.series = series;
    this.now = now;
    this.draw();
    this.sum();
    this.tabulate();
  }

  peak(point) {
    return this.stacked ? point.total : Math.max(0, ...this.series.map(({ key }) => point.values?.[key] ?? 0));
  }

  draw() {
    const box = this.host.getBoundingClientRect();
    if (box.width === 0) return;
    [this.width, this.height] = [box.width, box.height];
    attribute(this.canvas, 'viewBox', `0 0 ${this.width} ${this.height}`);
    const step = niceStep(Math.max(1, ...this.points.map((point) => this.peak(point))));
    this.top = step * 4;
    this.scale(step);
    if (this.stacked) this.stack();
    else this.lines();
    this.point();
  }

  scale(step) {
    const labels = [];
    for (let i = 0; i <= 4; i += 1) {
      const y = Math.round(this.y(step * i));
      labels.push(svg('line', { class: 'grid', x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y }));
      labels.push(svg('text', { x: MARGIN.left - 8, y: y + 4, 'text-anchor': 'end' }, compact(step * i)));
    }
    for (let minute = 5; minute >= 0; minute -= this.width < 420 ? 2.5 : 1) {
      const x = this.x(this.now - minute * 60_000);
      const anchor = minute === 5 ? 'start' : minute === 0 ? 'end' : 'middle';
      const text = minute === 0 ? (this.fresh ? 'now' : clock(this.now)) : `−${minute} min`;
      labels.push(svg('text', { x, y: this.height - 5, 'text-anchor': anchor }, text));
    }
    this.grid.replaceChildren(...labels);
  }

  /** Runs of points without a gap, of those that `has`. */
  runs(has) {
    const runs = [];
    let last = null;
    for (const [i, point] of this.points.entries()) {
      if (has(point, this.points[i - 1])) {
        if (last && point.t - last.t <= GAP_MS) runs.at(-1).push(point);
        else runs.push([point]);
        last = point;
      } else last = null;
    }
    return runs;
  }

  /** The area between two heights, over one run. A single point is drawn as wide as a second. */
  area(run, low, high) {
    const xs = run.length > 1 ? run.map((point) => this.x(point.t)) : [this.x(run[0].t - 500), this.x(run[0].t + 500)];
    const at = (heights, i) => this.y(heights[Math.min(i, heights.length - 1)]).toFixed(1);
    const up = xs.map((x, i) => `${x.toFixed(1)},${at(high, i)}`);
    const down = xs.map((x, i) => `${x.toFixed(1)},${at(low, i)}`).reverse();
    return `M${up.join('L')}L${down.join('L')}Z`;
  }

  line(run, value) {
    return `M${run.map((point) => `${this.x(point.t).toFixed(1)},${this.y(value(point)).toFixed(1)}`).join('L')}`;
  }

  stack() {
    const paths = [''];
    // What is not known by series reaches to where that begins.
    for (const run of this.runs((point, before) => point.values === null || before?.values === null)) {
      paths[0] += this.area(run, run.map(() => 0), run.map((point) => point.total));
    }
    const known = this.runs((point) => point.values !== null);
    let lows = known.map((run) => run.map(() => 0));
    this.series.forEach(({ key }, at) => {
      paths[at + 1] = '';
      const highs = known.map((run, r) => run.map((point, i) => lows[r][i] + (point.values[key] ?? 0)));
      known.forEach((run, r) => { paths[at + 1] += this.area(run, lows[r], highs[r]); });
      lows = highs;
    });
    const colours = ['f0', ...this.series.map(({ colour }) => `f${colour}`)];
    this.paint(paths, colours.map((colour) => `area ${colour}${this.series.length === 1 ? ' single' : ''}`));
    attribute(this.outline, 'd', this.runs(() => true).map((run) => this.line(run, (point) => point.total)).join(''));
  }

  lines() {
    const runs = this.runs((point) => point.values !== null);
    this.paint(
      this.series.map(({ key }) => runs.map((run) => this.line(run, (point) => point.values[key] ?? 0)).join('')),
      this.series.map(({ colour, dashed }) => `line s${colour}${dashed ? ' dashed' : ''}`),
    );
  }

  paint(paths, classes) {
    while (this.layers.childElementCount > paths.length) this.layers.lastElementChild.remove();
    paths.forEach((path, i) => {
      const node = this.layers.children[i] ?? this.layers.appendChild(svg('path'));
      attribute(node, 'd', path);
      attribute(node, 'class', classes[i]);
    });
  }

  // ---- reading it ----

  /** Points at one of the points, or at none. */
  read(index) {
    this.cursorAt = index === null || index < 0 ? null : this.points[index].t;
    this.point();
  }

  point() {
    const point = this.cursorAt === null ? undefined : this.points.find(({ t }) => t === this.cursorAt);
    this.tip.hidden = !point;
    attribute(this.cursor, 'visibility', point ? 'visible' : 'hidden');
    if (!point) {
      attribute(this.host, 'aria-valuenow', 0);
      attribute(this.host, 'aria-valuetext', this.points.length ? this.words(this.points.at(-1)) : 'no figures yet');
      return;
    }
    const x = this.x(point.t);
    for (const end of ['x1', 'x2']) attribute(this.cursor, end, x.toFixed(1));
    attribute(this.cursor, 'y2', this.height - MARGIN.bottom);
    attribute(this.host, 'aria-valuenow', Math.round((point.t - this.now) / 1000));
    attribute(this.host, 'aria-valuetext', this.words(point));
    this.tip.replaceChildren(...this.rows(point));
    const { width } = this.tip.getBoundingClientRect();
    const left = x + 12 + width > this.width ? Math.max(0, x - 12 - width) : x + 12;
    this.tip.style.transform = `translate(${left.toFixed(0)}px, ${MARGIN.top}px)`;
  }

  parts(point) {
    return point.values === null ? [] : this.series.map((one) => ({ ...one, value: point.values[one.key] ?? 0 }));
  }

  rows(point) {
    const row = (colour, name, value) => el('div', {},
      colour ? el('span', { class: `swatch b${colour}` }) : null,
      el('span', { class: 'name' }, name), el('span', { class: 'value' }, value));
    const rows = [el('div', { class: 'muted' }, clock(point.t))];
    if (this.stacked) rows.push(row(0, this.what, this.format(point.total)));
    if (!this.stacked || this.series.length > 1) {
      rows.push(...this.parts(point).map(({ colour, name, value }) => row(colour, name, this.format(value))));
    }
    return rows;
  }

  words(point) {
    const parts = this.parts(point).map(({ name, value }) => `${name} ${this.format(value)}`);
    const total = this.stacked ? [this.format(point.total)] : [];
    return `${clock(point.t)}: ${[...total, ...(this.stacked && parts.length < 2 ? [] : parts)].join(', ')}`;
  }

  sum() {
    if (this.points.length === 0) return say(this.summary, 'Nothing to show yet.');
    const last = this.points.at(-1);
    if (this.stacked) {
      const highest = this.points.reduce((one, other) => (other.total > one.total ? other : one));
      const lowest = this.points.reduce((one, other) => (other.total < one.total ? other : one));
      return say(this.summary, `Last ${this.format(last.total)}. Highest ${this.format(highest.total)} at ${clock(highest.t)}, `
        + `lowest ${this.format(lowest.total)} at ${clock(lowest.t)}.`);
    }
    const each = this.parts(last).map(({ key, name, value }) => {
      const highest = Math.max(...this.points.map((point) => point.values?.[key] ?? 0));
      return `${name}: last ${this.format(value)}, highest ${this.format(highest)}`;
    });
    return say(this.summary, `${each.join('. ')}.`);
  }

  tabulate() {
    if (!this.table.open) return;
    const at = (t) => this.points.findLast((point) => point.t <= t && t - point.t < TABLE_STEP_MS);
    const rows = [];
    const latest = Math.floor(this.now / TABLE_STEP_MS) * TABLE_STEP_MS;
    for (let t = latest; t > this.now - WINDOW_MS; t -= TABLE_STEP_MS) if (at(t)) rows.push(at(t));
    // Until a step is complete there is what it began with.
    if (rows.length === 0) rows.push(...this.points.slice(0, 1));
    const columns = [...(this.stacked ? [this.what] : []), ...this.series.map(({ name }) => name)];
    const signature = JSON.stringify([columns, rows.map((point) => point.t)]);
    if (signature === this.tabulated) return;
    this.tabulated = signature;
    const head = el('tr', {}, el('th', { scope: 'col' }, 'Time'), ...columns.map((name) => el('th', { scope: 'col', class: 'number' }, name)));
    const cells = (point) => [...(this.stacked ? [point.total] : []), ...this.series.map(({ key }) => point.values?.[key])];
    const body = rows.map((point) => el('tr', {}, el('th', { scope: 'row' }, clock(point.t)),
      ...cells(point).map((value) => el('td', { class: 'number' }, known(value) ? this.format(value) : NOTHING))));
    this.table.querySelector('.scroll').replaceChildren(el('table', {}, el('thead', {}, head), el('tbody', {}, ...body)));
  }
}

/** The names of a chart's series and their colours. */
function legend(list, series, stroked) {
  const signature = JSON.stringify(series);
  if (list.dataset.shown === signature) return;
  list.dataset.shown = signature;
  list.replaceChildren(...series.map(({ name, colour, dashed }) => el('li', {},
    el('span', { class: `swatch b${colour}${stroked ? (dashed ? ' dash' : ' stroke') : ''}`, 'aria-hidden': 'true' }), el('span', {}, name))));
}
