// What the tests of the pages share: a browser, checks that wait for what they expect, and their count.

import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const DEADLINE_MS = 15_000;
const LOOK_AGAIN_MS = 40;

export const options = Object.fromEntries(process.argv.slice(2).filter((text) => text.startsWith('--'))
  .map((text) => text.slice(2).split(/=(.*)/s)).map(([name, value = true]) => [name, value]));

export async function launchBrowser() {
  const { chromium } = createRequire(`${process.env.NODE_MODULES}/`)('playwright-core');
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
}

export function assert(condition, what) {
  if (!condition) throw new Error(what);
}

export function equal(found, expected, what = '') {
  const [one, other] = [JSON.stringify(found), JSON.stringify(expected)];
  assert(one === other, `${what}${what && ': '}expected ${other}, found ${one}`);
}

/** Waits until `look()` gives something true, and gives it; fails with what `look` last threw or gave. */
export async function until(what, look) {
  const deadline = Date.now() + DEADLINE_MS;
  for (let last; ;) {
    try {
      last = await look();
      if (last) return last;
    } catch (error) {
      last = error.message;
    }
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}; last: ${JSON.stringify(last)}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
}

/** Runs checks one after the other and counts them. */
export class Checks {
  constructor(name) {
    Object.assign(this, { name, passed: 0, failed: 0 });
  }

  async check(what, run) {
    try {
      await run();
      this.passed += 1;
      console.log(`ok ${this.name}: ${what}`);
    } catch (error) {
      this.failed += 1;
      console.log(`not ok ${this.name}: ${what}: ${String(error.message ?? error).split('\n')[0]}`);
    }
  }
}

/** A page whose errors are remembered: exceptions, violations of its policy, what it could not load. */
export async function openPage(browser, url, context = {}) {
  const opened = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce', ...context });
  await opened.addInitScript(() => {
    window.violations = [];
    window.shifts = [];
    addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) {
        const moved = entry.sources.map(({ node }) => (node?.parentElement ? `${node.parentElement.id}/${node.nodeName} ${node.id ?? ''}` : 'gone'));
        window.shifts.push(`${entry.value.toFixed(6)} ${moved.join(', ')}`);
      }
    }).observe({ type: 'layout-shift', buffered: true });
  });
  const page = await opened.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(error.message));
  page.on('dialog', (dialog) => {
    page.faults.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  const response = await page.goto(url);
  return { page, response, context: opened };
}

export const text = async (page, selector) => (await page.locator(selector).textContent()).trim();

/** Nothing was thrown, nothing violated the policy, nothing said by others became markup. */
export async function checkClean(page) {
  equal(page.faults, [], 'exceptions');
  equal(await page.evaluate(() => window.violations), [], 'violations of the policy');
  equal(await page.evaluate(() => window.injected ?? null), null, 'injected script ran');
}

/** The policy lets nothing in but the page's own style, script and figures. */
export function checkPolicy(response) {
  const policy = response.headers()['content-security-policy'] ?? '';
  for (const part of ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'"]) {
    assert(policy.includes(part), `the policy lacks ${part}: ${policy}`);
  }
  assert(!policy.includes('unsafe'), policy);
}

/** The page is as wide as the window at each of these widths. */
export async function checkWidths(page, widths = [1280, 768, 360, 320]) {
  for (const width of widths) {
    await page.setViewportSize({ width, height: 800 });
    const wide = await page.evaluate(() => {
      const width = document.documentElement.clientWidth;
      if (document.documentElement.scrollWidth <= width) return null;
      const last = [...document.querySelectorAll('body *')].filter((node) => node.getBoundingClientRect().right > width + 0.5);
      return last.slice(0, 3).map((node) => `${node.tagName} ${node.id || node.className}`).join(', ') || 'something';
    });
    equal(wide, null, `wider than the window at ${width} px`);
  }
  await page.setViewportSize({ width: 1280, height: 900 });
}

/** Every text on the page stands out from what is behind it: 4.5 to 1 (WCAG 2, AA). */
export async function checkContrast(page) {
  const poor = await page.evaluate(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      return canvas.getImageData(0, 0, 1, 1).data;
    };
    const luminance = ([r, g, b]) => [r, g, b].map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
      .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = (node) => {
      for (let at = node; at; at = at.parentElement) {
        const colour = rgba(getComputedStyle(at).backgroundColor);
        if (colour[3] === 255) return colour;
      }
      return [255, 255, 255, 255];
    };
    const found = [];
    for (const node of document.querySelectorAll('body *')) {
      const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
      if (!own || !node.checkVisibility() || node.closest(':disabled, .unseen, .skip, script, svg')) continue;
      const [one, other] = [luminance(rgba(getComputedStyle(node).color)), luminance(behind(node))];
      const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${node.textContent.trim().slice(0, 30)}`);
    }
    return [...new Set(found)].slice(0, 5);
  });
  equal(poor, [], 'texts that do not stand out');
}

/** What assistive technology needs of any page. */
export async function checkStructure(page) {
  const faults = await page.evaluate(() => {
    const found = [];
    for (const selector of ['header', 'main', 'footer', 'h1', '[aria-live="polite"]', 'html[lang]']) {
      if (!document.querySelector(selector)) found.push(`no ${selector}`);
    }
    for (const section of document.querySelectorAll('section')) {
      const label = section.getAttribute('aria-label') ?? document.getElementById(section.getAttribute('aria-labelledby'))?.textContent;
      if (!label && !section.closest('noscript')) found.push(`a section without a name: ${section.id}`);
    }
    for (const table of document.querySelectorAll('table')) {
      if (!table.caption && !table.closest('details')) found.push('a table without a caption');
      if (!table.querySelector('th[scope="col"]')) found.push('a table without headers');
    }
    for (const node of document.querySelectorAll('button, input, select, a, [tabindex="0"]')) {
      const name = node.getAttribute('aria-label') || node.getAttribute('aria-labelledby') || node.labels?.[0]?.textContent || node.textContent.trim();
      if (!name && !node.closest('dialog')) found.push(`without a name: ${node.outerHTML.slice(0, 60)}`);
    }
    const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
    if (new Set(ids).size !== ids.length) found.push('an id is there twice');
    for (const node of document.querySelectorAll('[aria-labelledby], [aria-describedby], [for]')) {
      for (const name of ['aria-labelledby', 'aria-describedby', 'for']) {
        const id = node.getAttribute(name);
        if (id && !document.getElementById(id)) found.push(`${name} names nothing: ${id}`);
      }
    }
    return found;
  });
  equal(faults, [], 'structure');
}

/** What the tab key reaches, in its order, from the top of the page: names. */
export async function tabOrder(page, steps) {
  await page.evaluate(() => {
    // Where the focus was last is where the tab key goes on from.
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute('tabindex');
    scrollTo(0, 0);
  });
  const names = [];
  for (let step = 0; step < steps; step += 1) {
    await page.keyboard.press('Tab');
    names.push(await page.evaluate(() => {
      const node = document.activeElement;
      const outline = getComputedStyle(node);
      const seen = outline.outlineStyle !== 'none' && parseFloat(outline.outlineWidth) >= 2;
      return `${seen ? '' : 'UNSEEN '}${node.id || node.getAttribute('aria-label') || node.textContent.trim()}`;
    }));
  }
  return names;
}

/** A program as a child process, ready when its ready line has come. */
export class Program {
  constructor(argv, { pattern, env = {} }) {
    Object.assign(this, { argv, pattern, env });
  }

  async start() {
    this.child = spawn(this.argv[0], this.argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...this.env } });
    this.ended = once(this.child, 'exit');
    let said = '';
    this.child.stderr.on('data', (data) => { said = (said + data).slice(-2000); });
    const lines = createInterface({ input: this.child.stdout });
    const ready = new Promise((resolve, reject) => {
      lines.on('line', (line) => {
        const found = this.pattern.exec(line);
        if (found) resolve(found.groups);
      });
      lines.on('close', () => reject(new Error(`${this.argv.join(' ')} ended: ${said}`)));
      this.child.on('error', reject);
    });
    this.fields = await ready;
    return this;
  }

  signal(name) { this.child.kill(name); }

  async kill() {
    this.child?.kill('SIGKILL');
    await this.ended?.catch(() => {});
  }
}

const BINARY = process.env.THRONG;
const READY = /^throng ready http=(?<address>\S+)/;

/** A node on a loopback port of the kernel's choice, or on `port`. */
export const node = (...flags) => new Program(
  [BINARY, 'serve', '--bind', '127.0.0.1', '--ws-port', 'off', '--reactors', '2', ...(flags.includes('--port') ? [] : ['--port', '0']), ...flags],
  { pattern: READY },
);

/** A client that stays: the WebSocket of Node.js if it has one, else of a page. */
export async function connect(helper, url) {
  return helper.evaluate((address) => new Promise((resolve, reject) => {
    window.sockets ??= [];
    const socket = new WebSocket(address);
    socket.onopen = () => resolve(window.sockets.push(socket) - 1);
    socket.onerror = () => reject(new Error(`no WebSocket at ${address}`));
  }), url);
}
