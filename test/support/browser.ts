import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { test } from 'vitest';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome'] as const;
const TEST_MS_MAX = 60_000;
const PAGE_MS_MAX = 20_000;
const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

function findChromium(): string | undefined {
  const named = process.env.LANEGATE_CHROMIUM;
  if (named !== undefined && named !== '') return named;
  const folders = ['/usr/bin', ...(process.env.PATH ?? '').split(delimiter)];
  return NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find((path) =>
    existsSync(path),
  );
}

/** A test in headless Chromium: skipped by a name that says so where there is none, failed where one is required. */
export function browserTest(name: string, body: () => Promise<void>): void {
  if (findChromium() !== undefined) test(name, body, TEST_MS_MAX);
  else if (process.env.LANEGATE_REQUIRE_BROWSER === '1') {
    test(name, () => {
      throw new Error('LANEGATE_REQUIRE_BROWSER=1, and no Chromium was found; set LANEGATE_CHROMIUM to one');
    });
  } else test.skip(`${name} (skipped: no Chromium; install chromium or set LANEGATE_CHROMIUM)`, body);
}

/** One headless browser with one page; what went wrong on the page is kept for the test to look at. */
export class BrowserPage implements AsyncDisposable {
  readonly page: Page;
  /** Uncaught exceptions and the errors of the console. */
  readonly errors: string[] = [];
  /** Requests that another host than the page's own received an attempt of. */
  readonly foreignRequests: string[] = [];
  readonly #browser: Browser;

  private constructor(browser: Browser, page: Page) {
    this.#browser = browser;
    this.page = page;
  }

  static async open(
    url: string,
    login?: { readonly username: string; readonly password: string },
  ): Promise<BrowserPage> {
    const executablePath = findChromium();
    if (executablePath === undefined) throw new Error('no Chromium');
    const browser = await chromium.launch({ executablePath, args: ARGS, headless: true });
    try {
      const context = await browser.newContext({
        ...(login === undefined ? {} : { httpCredentials: login }),
      });
      const opened = new BrowserPage(browser, await context.newPage());
      opened.#watch(new URL(url).host);
      opened.page.setDefaultTimeout(PAGE_MS_MAX);
      await opened.page.goto(url);
      return opened;
    } catch (error) {
      await browser.close();
      throw error;
    }
  }

  /** Waits until `text` can be read on the page; fails with what is there instead. */
  async sees(text: string | RegExp): Promise<void> {
    try {
      await this.page.getByText(text).first().waitFor({ state: 'visible' });
    } catch {
      const shown = await this.page.locator('body').innerText();
      throw new Error(
        `the page does not show ${text}; it shows:\n${shown}\nerrors: ${this.errors.join('\n')}`,
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close();
  }

  #watch(host: string): void {
    this.page.on('pageerror', (error) => this.errors.push(error.message));
    this.page.on('console', (message) => {
      if (message.type() === 'error') this.errors.push(message.text());
    });
    this.page.on('response', (response) => {
      const target = new URL(response.url());
      if (target.protocol.startsWith('http') && target.host !== host)
        this.foreignRequests.push(response.url());
    });
  }
}
