import type { IngestLimits } from '../../processors/ingest.ts';
import type { Config } from '../config.ts';
import type { WorkerOptions } from '../roles/worker.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import type { Logger } from '../runtime/log.ts';
import type { Source } from '../sources/source.ts';

/** Commands between two crossing ones of a gate's segment: beyond it, lanes are faster than one serial batch. */
const SEGMENT_GAP_MAX = 1_024;
const SLICE_MS = 1_000;
const LANE_LINGER_MS = 200;
/** What Redis takes as one value (proto-max-bulk-len): an item of the journal is one. */
const ITEM_BYTES_MAX = 512 * 1024 * 1024;
/** Header, index and what else an item holds. */
const ITEM_SLACK_BYTES = 64 * 1024;
/** A FLUSHALL of a large target may block it for a while; a connection that died unnoticed blocks the gate as long. */
const GATE_TIMEOUT_MS = 120_000;

/** What decides, besides lanes and command table, which lanes a command needs. */
export function routingPolicy(
  config: Pick<Config, 'splitMultiKey' | 'publish' | 'scriptKeys' | 'allow' | 'deny'>,
): Readonly<Record<string, unknown>> {
  const { splitMultiKey, publish, scriptKeys, allow, deny } = config;
  return { splitMultiKey, publish, scriptKeys, allow: [...allow].sort(), deny: [...deny].sort() };
}

/** A single command may weigh what an item takes besides the bytes of a round or a segment. */
function limitsOf(config: Config): IngestLimits {
  const { roundBytes: roundBytesMax, segmentBytes: segmentBytesMax, transactionBytes } = config;
  const besides = Math.max(roundBytesMax, segmentBytesMax) + ITEM_SLACK_BYTES;
  const commandBytesMax = Math.max(ITEM_SLACK_BYTES, ITEM_BYTES_MAX - besides);
  const transactionBytesMax = Math.min(transactionBytes, commandBytesMax);
  const segmentGapMax = SEGMENT_GAP_MAX;
  return { roundBytesMax, segmentBytesMax, segmentGapMax, transactionBytesMax, commandBytesMax };
}

/** How `run` and `worker` start a process from the configuration. */
export function workerOptions(
  config: Config,
  parts: { queue: Endpoint; target: Endpoint; source: Source | undefined; log: Logger },
): WorkerOptions {
  const { splitMultiKey, publish, scriptKeys, allow, deny } = config;
  const policy = routingPolicy(config);
  return {
    ...parts,
    name: config.name,
    roles: config.roles,
    processor: {
      chunkBytesMax: config.chunkBytes,
      onPoison: config.onPoison,
      budgetBytes: config.budgetBytes,
      sliceMs: SLICE_MS,
      lingerMs: LANE_LINGER_MS,
      watchdogMs: config.watchdogMs,
      gateTimeoutMs: GATE_TIMEOUT_MS,
    },
    holder: {
      from: config.from,
      lanes: config.lanes,
      targetData: config.targetData,
      expiryGraceMs: config.expiryGraceMs,
      policy,
      classifier: { splitMultiKey, publish, scriptKeys, allow, deny },
      limits: limitsOf(config),
      retentionMs: config.retentionMs,
    },
    retention: { ms: config.retentionMs, bytes: config.retentionBytes },
    lockMs: config.lockMs,
  };
}
