import { describe, expect, test } from 'vitest';
import { FrameReader, frameOf } from '../../../src/sources/pika/frames.ts';
import {
  binlogSync,
  metaSync,
  readResponse,
  removeSlaveNode,
  trySync,
} from '../../../src/sources/pika/messages.ts';

const NODE = { ip: '10.0.0.3'.replace('3', '8'), port: 9999 };
