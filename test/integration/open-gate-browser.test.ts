import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import type { PipelineStatus } from '../../src/status.ts';
import { BrowserPage, browserTest } from '../support/browser.ts';
import { lanegate, spawnLanegate } from '../support/cli.ts';
import { Pipeline } from '../support/pipeline.ts';

browserTest(
  'while a gate is open the board shows the queues, the paused lane and what a job did',
  async () => {
    await using pipeline = await Pipeline.start({ lanes: 2 });
    const entry = (...commands: string[][]) => ({ db: 0, timeMs: Date.now(), commands });
    pipeline.worker();
    const keys = Array.from({ length: 40 }, (_, at) => ['SET', `key:${at}`, 'value']);
    await pipeline.append([entry(...keys)]);
    await pipeline.caughtUp();
    // Jobs linger for a moment before they are shown as completed.
    await delay(500);

    await lanegate(['lane', 'pause', '1', ...pipeline.urls]);
    await pipeline.append([entry(...keys), entry(['FLUSHDB']), entry(['SET', 'after', '1'])]);
    const port = 20_000 + Math.floor(Math.random() * 9_000);
    await using board = spawnLanegate([
      'board',
      ...pipeline.urls,
      '--board-port',
      String(port),
      '--log-format',
      'json',
    ]);
    await board.waitForLine(/board is listening/);
    const url = `http://127.0.0.1:${port}`;
    await untilGateWaitsFor(1, url);

    await using browser = await BrowserPage.open(`${url}/`);
    for (const name of ['lane-0', 'lane-1', 'gate', 'ingest']) await browser.sees(name);
    await browser.sees(/paused/i);
    await browser.page.goto(`${url}/queue/lane-0?status=completed`);
    await browser.sees(/lane 0: seq \d+\.\.\d+, \d+ commands, .* ms/);
    await browser.page.goto(`${url}/queue/gate?status=waiting-children`);
    await browser.sees(/gate 81: FLUSHDB, lanes 0,1/);
    expect(await pipeline.target.client().dbsize()).toBeGreaterThan(40);

    await lanegate(['lane', 'resume', '1', ...pipeline.urls]);
    await pipeline.caughtUp();
    expect(await pipeline.target.client().get('after')).toBe('1');
    expect(await pipeline.target.client().exists('key:1')).toBe(0);
  },
);

async function untilGateWaitsFor(lane: number, url: string): Promise<void> {
  for (let looks = 0; ; looks++) {
    const { gate } = (await (await fetch(`${url}/api/status`)).json()) as PipelineStatus;
    if (gate.open && gate.waitingFor.includes(lane)) return;
    if (looks > 300) throw new Error(`the gate does not wait for lane ${lane}: ${JSON.stringify(gate)}`);
    await delay(50);
  }
}
