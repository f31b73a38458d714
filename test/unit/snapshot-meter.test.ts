import { describe, expect, test } from 'vitest';
import { SnapshotMeter } from '../../processors/snapshot-meter.ts';
import { renderStatus, snapshotText } from '../../src/commands/status-view.ts';
import type { SourceProgress } from '../../src/sources/source.ts';
import { pipelineStatus } from '../support/pipeline-status.ts';

function loading(loadedBytes: number, changes: Partial<SourceProgress> = {}): SourceProgress {
  const base = {
    phase: 'loading',
    receivedBytes: 4_096,
    totalBytes: 10_240,
    keys: 7,
    spooledBytes: 0,
  } as const;
  return { ...base, loadedBytes, ...changes };
}

describe('how far a full sync has come', () => {
  test('rate and time left come from two looks', () => {
    const meter = new SnapshotMeter();
    expect(meter.look(undefined, 0)).toBeNull();
    expect(meter.look(loading(0), 1_000)).toMatchObject({ bytesPerSecond: null, msLeft: null });
    expect(meter.look(loading(2_048), 2_000)).toMatchObject({ bytesPerSecond: 2_048, msLeft: 4_000 });
    // The same look again changes nothing.
    expect(meter.look(loading(2_048), 2_000)).toMatchObject({ bytesPerSecond: 2_048 });
  });

  test('another snapshot begins without the rate of the one before', () => {
    const meter = new SnapshotMeter();
    meter.look(loading(0), 0);
    meter.look(loading(5_000), 1_000);
    expect(meter.look(loading(10), 2_000)).toMatchObject({ bytesPerSecond: null, msLeft: null });
  });

  test('without a known size there is no time left', () => {
    const meter = new SnapshotMeter();
    meter.look(loading(0, { totalBytes: undefined, phase: 'receiving' }), 0);
    const view = meter.look(loading(1_024, { totalBytes: undefined, phase: 'receiving' }), 1_000);
    expect(view).toMatchObject({ bytesPerSecond: 1_024, msLeft: null });
  });

  test('people see phase, bytes, keys, rate and time left, and what waits on disk', () => {
    const snapshot = {
      ...loading(2_048, { spooledBytes: 1_024 }),
      totalBytes: 10_240,
      bytesPerSecond: 2_048,
      msLeft: 4_000,
    };
    expect(snapshotText(snapshot)).toBe(
      'loading: 2 KiB of 10 KiB, 4 KiB received, 7 keys, 2 KiB/s, 4.0 s left; 1 KiB wait on disk',
    );
    const source = { kind: 'redis-link', position: 'snap:x', connected: true, waiting: null, snapshot };
    const view = renderStatus(pipelineStatus({ source }), { colour: false, width: 200 });
    expect(view).toContain('full sync');
    const done = { ...snapshot, phase: 'streaming', spooledBytes: 0 } as const;
    const after = renderStatus(pipelineStatus({ source: { ...source, snapshot: done } }), {
      colour: false,
      width: 200,
    });
    expect(after).not.toContain('full sync');
    const ofPika = renderStatus(pipelineStatus({ source: { ...source, kind: 'pika' } }), {
      colour: false,
      width: 200,
    });
    expect(ofPika).toMatch(/^copy +loading: 2 KiB/m);
    expect(ofPika).not.toContain('full sync');
  });
});
