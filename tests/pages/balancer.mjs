// The balancer's page in a browser. By default against a balancer that is made up (mock.mjs); with --real against
// `throng balance` and three nodes; with --url=http://HOST:PORT [--token=TOKEN] against one that runs already, where
// nothing is killed or drained.

import { Mock, lively } from './mock.mjs';
import {
  Checks, Program, assert, checkClean, checkContrast, checkPolicy, checkStructure, checkWidths, connect, equal, launchBrowser,
  node, openPage, options, tabOrder, text, until,
} from './harness.mjs';

const PAGE = '/web-loadbalancer.html';
const TOKEN = 'secret';
const EVIL = '<img src=x onerror="window.injected=1"><script>window.injected=2</script>';
const CLIENTS = 30;

/** A balancer that is made up. */
class MadeUp {
  async start() {
    if (!this.mock) {
      this.mock = new Mock({ token: TOKEN, tickMs: 200 });
      for (const name of ['node-1:8080', 'node-2:8080', 'node-3:8080']) this.mock.addBackend(name);
    }
    await this.mock.start(this.mock.port ?? 0);
    this.url = `http://127.0.0.1:${this.mock.port}`;
    this.names = this.mock.backends.map((backend) => backend.name);
  }

  async stop() { await this.mock.stop(); }
  async kill(index) { this.mock.kill(this.mock.backends[index]); }

  async addClients(clients) {
    clients.forEach(({ id, name }, at) => this.mock.addClient(id, this.mock.backends[at % 3], { name: name ?? null }));
  }
}

/** `throng balance` in front of three nodes. */
class Real {
  async start() {
    if (!this.nodes) {
      this.nodes = await Promise.all([1, 2, 3].map((n) => node('--node-id', `node-${n}`).start()));
      this.names = this.nodes.map((one) => one.fields.address);
    }
    const flags = this.names.flatMap((name) => ['--backend', name]);
    const port = this.url ? new URL(this.url).port : '0';
    this.balancer = new Program([process.env.THRONG, 'balance', '--bind', '127.0.0.1', '--port', port, ...flags],
      { pattern: /http=(?<address>\S+)/, env: { THRONG_ADMIN_TOKEN: TOKEN } });
    await this.balancer.start();
    this.url = `http://${this.balancer.fields.address}`;
  }

  async stop() { await this.balancer.kill(); }
  async kill(index) { await this.nodes[index].kill(); }

  async addClients(clients) {
    const { page } = await openPage(browser, `${this.url}/health`);
    const base = this.url.replace('http', 'ws');
    for (const { id, name } of clients) {
      const query = new URLSearchParams({ client_id: id, ...(name ? { name } : {}) });
      await connect(page, `${base}/ws?${query}`);
    }
  }

  async end() { for (const one of [this.balancer, ...(this.nodes ?? [])]) await one?.kill(); }
}

/** One that runs already. */
class Given {
  async start() { this.url = String(options.url).replace(/\/$/, ''); }
  addClients(clients) { return Real.prototype.addClients.call(this, clients); }
}

const browser = await launchBrowser();
const system = options.url ? new Given() : options.real ? new Real() : new MadeUp();
const checks = new Checks(options.url ? 'balancer page, given' : options.real ? 'balancer page' : 'balancer page, made-up balancer');
const check = (what, run) => checks.check(what, run);
const live = (page) => until('the page is live', async () => (await text(page, '#link')) === 'Live' && !(await page.locator('#lost').isVisible()));
const row = (page, name) => page.locator('#backends tr').filter({ hasText: name });

try {
  await system.start();
  const { page, response, context } = await openPage(browser, system.url + PAGE);

  await check('it is served under a strict policy and goes live', async () => {
    equal(response.status(), 200);
    checkPolicy(response);
    await live(page);
    await checkClean(page);
  });

  await check('it shows each backend with its state in words', async () => {
    for (const name of system.names ?? []) {
      await until(`${name} is up`, async () => /up/.test(await row(page, name).locator('.state').textContent()));
      assert(await row(page, name).locator('.state svg').count() === 1, 'the state has no shape');
    }
    if (system.names) await until('all are counted', async () => (await text(page, '#t-available')) === `${system.names.length} of ${system.names.length}`);
    assert((await text(page, '#strategy')).length > 1, 'no strategy');
    equal(await text(page, '#phase'), 'serving');
  });

  await check('clients appear, and what they call themselves stays text', async () => {
    const many = Array.from({ length: CLIENTS - 2 }, (_, at) => ({ id: `client-${String(at).padStart(2, '0')}` }));
    await system.addClients([{ id: EVIL, name: EVIL }, { id: 'needle', name: 'in a haystack' }, ...many]);
    await until('they are counted', async () => Number((await text(page, '#clients-count')).replaceAll(',', '')) >= CLIENTS);
    await page.locator('#search').fill('<img');
    await until('the odd one is found', async () => (await text(page, '#clients-count')) === '1 found');
    assert((await text(page, '#clients')).includes(EVIL), 'the name is not shown as it is');
    await checkClean(page);
  });

  await check('the search finds one client and can be cleared', async () => {
    await page.locator('#search').fill('needle');
    await until('one is found', async () => (await text(page, '#clients-count')) === '1 found' && /needle/.test(await text(page, '#clients')));
    await page.locator('#search').fill('nobody has this name');
    await until('it says that nobody is', async () => (await text(page, '#no-clients-title')) === 'No client matches.');
    await page.locator('#clear').click();
    await until('all are shown', async () => Number(await text(page, '#clients-count')) >= CLIENTS);
    equal(await page.evaluate(() => document.activeElement.id), 'search', 'focus');
  });

  await check('the list is paged and keeps its place when it is refreshed', async () => {
    equal(await page.locator('#clients tr').count(), 25);
    const first = await text(page, '#clients tr:first-child th');
    await page.locator('#next').click();
    await until('page 2', async () => /^page 2 of/.test(await text(page, '#page-number')));
    const second = await text(page, '#clients tr:first-child th');
    assert(first !== second, 'the same clients again');
    await page.waitForResponse((answer) => answer.url().includes('/api/clients') && answer.url().includes('after='));
    await page.waitForResponse((answer) => answer.url().includes('/api/clients') && answer.url().includes('after='));
    equal(await text(page, '#clients tr:first-child th'), second, 'after a refresh');
    await page.locator('#previous').click();
    await until('page 1', async () => /^page 1 of/.test(await text(page, '#page-number')));
    equal(await text(page, '#clients tr:first-child th'), first);
    assert(await page.locator('#previous').isDisabled(), 'there is no page before the first');
  });

  if (system.names) await check('it can be limited to the clients of one backend', async () => {
    await page.locator('#of').selectOption({ label: system.names[1] });
    await until('only those', async () => {
      const shown = await page.locator('#clients tr td:nth-of-type(4)').allTextContents();
      return shown.length > 0 && shown.every((name) => name === system.names[1]);
    });
    await page.locator('#of').selectOption('');
  });

  await check('the chart is read with the keyboard', async () => {
    const chart = page.locator('#chart');
    await until('it has points', async () => !/no figures/.test(await chart.getAttribute('aria-valuetext')));
    await page.locator('#theme').focus();
    await page.keyboard.press('Tab');
    equal(await page.evaluate(() => document.activeElement.id), 'chart', 'focus');
    await until('a cursor is shown', () => page.locator('#chart .tip').isVisible());
    await until('there is a point to go to', async () => {
      const before = await chart.getAttribute('aria-valuetext');
      await page.keyboard.press('ArrowLeft');
      return before !== await chart.getAttribute('aria-valuetext');
    });
    assert(/^\d\d:\d\d:\d\d: \d+/.test(await chart.getAttribute('aria-valuetext')), 'it is said when and how many');
    await page.keyboard.press('Escape');
    assert(await page.locator('#chart .tip').isHidden(), 'Escape hides it');
    await page.locator('#chart-table summary').click();
    await until('the table has rows', async () => await page.locator('#chart-table tbody tr').count() > 0);
    await page.locator('#chart-table summary').click();
  });

  await check('nothing moves while figures stream in', async () => {
    for (const width of [1280, 360]) {
      await page.setViewportSize({ width, height: 900 });
      const drawn = () => page.locator('#chart .top-line').getAttribute('d');
      const first = await drawn();
      await until('it is laid out', async () => await drawn() !== first);
      await page.evaluate(() => { window.shifts.length = 0; });
      const seen = new Set();
      await until('five snapshots came', async () => seen.add(await drawn()).size > 5);
      equal(await page.evaluate(() => window.shifts), [], `layout shifts at ${width} px`);
    }
    await page.setViewportSize({ width: 1280, height: 900 });
  });

  await check('it is built for assistive technology and the keyboard', async () => {
    await checkStructure(page);
    const order = await tabOrder(page, 3);
    equal(order, ['Skip to the figures', 'theme', 'chart'], 'tab order');
    const rest = await tabOrder(page, 12);
    assert(rest.includes('search') && rest.some((name) => name.startsWith('Drain ')) && !rest.some((name) => name.startsWith('UNSEEN')), rest.join());
  });

  await check('it fits a phone, and its texts stand out in both themes', async () => {
    await checkWidths(page);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await checkContrast(page);
    }
  });

  await check('the theme is chosen and remembered', async () => {
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme ?? 'auto');
    equal(await theme(), 'auto');
    await page.locator('#theme').click();
    await page.locator('#theme').click();
    equal(await theme(), 'dark');
    await page.reload();
    await live(page);
    equal(await theme(), 'dark');
    await page.locator('#theme').click();
    equal(await theme(), 'auto');
  });

  if (!options.url) {
    const [first, second] = system.names;
    await check('draining asks for confirmation and the token, and says when that is wrong', async () => {
      await row(page, first).getByRole('button', { name: `Drain ${first}` }).click();
      assert(/takes no new connections/.test(await text(page, '#ask-text')), 'what draining does is not said');
      equal(await page.evaluate(() => document.activeElement.id), 'token', 'focus');
      await page.keyboard.type('wrong');
      await page.keyboard.press('Enter');
      await until('it says so', async () => /token is wrong.*401/.test(await text(page, '#ask-error')));
      equal(await page.evaluate(() => sessionStorage.getItem('throng-admin-token')), null, 'a wrong token is kept');
      await page.keyboard.press('Escape');
      assert(/up/.test(await row(page, first).locator('.state').textContent()), 'it was drained');
    });

    await check('a backend is drained and enabled, and the token is asked for once', async () => {
      await row(page, first).getByRole('button', { name: 'Drain' }).click();
      await page.locator('#token').fill(TOKEN);
      await page.locator('#ask-do').click();
      await until('it drains', async () => /draining/.test(await row(page, first).locator('.state').textContent()));
      assert(await page.locator('#ask').isHidden(), 'the dialog stays');
      await until('the event is shown', async () => /draining/.test(await text(page, '#events li:first-child')));
      await row(page, first).getByRole('button', { name: 'Enable' }).click();
      await until('it is up again', async () => /up|slow start|checking/.test(await row(page, first).locator('.state').textContent()));
      assert(await page.locator('#ask').isHidden(), 'the token is asked for again');
      await page.locator('#forget').click();
      equal(await page.evaluate(() => sessionStorage.getItem('throng-admin-token')), null);
    });

    await check('a backend that is killed is shown as it happens', async () => {
      const announced = page.locator('#announcer');
      await system.kill(1);
      await until('it is down', async () => /down|ejected/.test(await row(page, second).locator('.state').textContent()));
      await until('it is told of', async () => new RegExp(`(down|ejected|failover).*${second}`).test(await text(page, '#events')));
      await until('it is announced', async () => (await announced.textContent()).includes(second));
      await until('it is no longer counted', async () => (await text(page, '#t-available')) === '2 of 3');
      await checkClean(page);
    });

    await check('it says since when the figures are old, and comes back by itself', async () => {
      await system.stop();
      await until('it says that it is lost', () => page.locator('#lost').isVisible());
      equal(await text(page, '#link'), 'Lost');
      await until('it says since when, and what next', async () => /as of \d\d:\d\d:\d\d, \d+ s ago.*Trying again/.test(await text(page, '#lost p')));
      assert(await page.evaluate(() => document.body.classList.contains('stale')
        && getComputedStyle(document.getElementById('backends-body')).filter.includes('grayscale')), 'the figures look as if they were of now');
      await until('it tries more than once', async () => page.evaluate(() => performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/api/events')).length >= 3)
        || /2nd|3rd/.test(await text(page, '#lost-next')));
      await system.start();
      await live(page);
      await until('it says that it was away', async () => /without connection for/.test(await text(page, '#events')));
      assert(!await page.evaluate(() => document.body.classList.contains('stale')), 'still grey');
    });
  }

  if (!options.url && !options.real) await madeUpOnly(page);
  await context.close();
} catch (error) {
  await check('the tests can run', () => { throw error; });
}

/** What only a balancer that is made up does on demand. */
async function madeUpOnly(page) {
  const { mock } = system;

  await check('what backends and events say stays text', async () => {
    const odd = mock.addBackend(EVIL, { why: EVIL, address: EVIL, origin: 'api' });
    odd.last_check = { at: new Date().toISOString(), ok: false, status: null, latency_ms: 1, error: `other ${EVIL}` };
    mock.say('backend_added', odd, `${EVIL} was added`);
    await until('it is shown', async () => (await page.locator('#backends').textContent()).includes(EVIL));
    await until('the event too', async () => (await text(page, '#events li:first-child')).includes(EVIL));
    await checkClean(page);
    mock.backends.pop();
    await until('it is gone', async () => !(await page.locator('#backends').textContent()).includes(EVIL));
  });

  await check('a balancer that falls silent is lost too', async () => {
    clearInterval(mock.timer);
    await until('it says so', async () => /nothing was heard/.test(await text(page, '#lost-since')));
    mock.timer = setInterval(() => mock.tick(), mock.tickMs);
    await live(page);
  });

  await check('what is no JSON is an error that is said, not thrown', async () => {
    for (const stream of mock.streams) stream.write('event: snapshot\ndata: {"at":\n\n');
    await until('it is lost', async () => /does not understand/.test(await text(page, '#lost-since')));
    await live(page);
    await checkClean(page);
  });

  await check('a balancer without a token says how to set one', async () => {
    mock.token = null;
    await row(page, 'node-1:8080').getByRole('button', { name: 'Drain' }).click();
    await page.locator('#ask-do').click();
    await until('it says so', async () => /THRONG_ADMIN_TOKEN.*403/.test(await text(page, '#ask-error')));
    await page.locator('#ask-cancel').click();
    equal(await page.evaluate(() => document.activeElement.textContent), 'Drain', 'focus is given back');
    mock.token = TOKEN;
  });

  await check('a page of clients who all left gives way to the one before', async () => {
    await system.addClients(Array.from({ length: CLIENTS }, (_, at) => ({ id: `late-${at}` })));
    await until('there are two pages', () => page.locator('#next').isEnabled());
    await page.locator('#next').click();
    await until('page 2', async () => /^page 2/.test(await text(page, '#page-number')));
    mock.clients.length = 3;
    await until('page 1', async () => /^page 1 of 1/.test(await text(page, '#page-number')) && await page.locator('#clients tr').count() === 3);
  });

  await check('an empty balancer teaches what to do', async () => {
    const empty = await new Mock().start();
    const { page: other, context } = await openPage(browser, `http://127.0.0.1:${empty.port}${PAGE}`);
    await until('backends', async () => (await text(other, '#no-backends')).includes(`curl -X POST http://127.0.0.1:${empty.port}/api/backends`));
    await until('clients', async () => (await text(other, '#no-clients')).includes(`throng client --url ws://127.0.0.1:${empty.port}/ws`));
    assert(await other.locator('#no-events').isVisible(), 'events');
    await checkWidths(other);
    await checkClean(other);
    await context.close();
    await empty.stop();
  });

  await check('many backends share the colours and the page keeps its width', async () => {
    const busy = new Mock({ tickMs: 200 });
    lively(busy, { clients: 60 });
    for (let i = 0; i < 40; i += 1) busy.addClient(`more-${i}`, busy.addBackend(`a-backend-with-a-long-name-${i}.eu-central-1.example.org:8080`));
    await busy.start();
    const { page: other, context } = await openPage(browser, `http://127.0.0.1:${busy.port}${PAGE}`);
    await until('the rest is one', async () => /others/.test(await text(other, '#legend')));
    equal(await other.locator('#backends tr').count(), 46);
    await checkWidths(other);
    await checkClean(other);
    await context.close();
    await busy.stop();
  });
}

await browser.close();
await system.end?.();
if (system.mock) await system.mock.stop().catch(() => {});
console.log(`balancer page: passed=${checks.passed} failed=${checks.failed}`);
process.exit(checks.failed ? 1 : 0);
