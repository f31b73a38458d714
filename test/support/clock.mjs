// Preloaded into a process (`--import`): at each SIGUSR2 its clock jumps, an hour ahead, an hour behind, and back.

const SHIFTS_MS = [3_600_000, -3_600_000, 0];
const RealDate = Date;
let at = SHIFTS_MS.length - 1;

globalThis.Date = class extends RealDate {
  constructor(...args) {
    super(...(args.length === 0 ? [RealDate.now() + SHIFTS_MS[at]] : args));
  }

  static now() {
    return RealDate.now() + SHIFTS_MS[at];
  }
};

process.on('SIGUSR2', () => {
  at = (at + 1) % SHIFTS_MS.length;
  process.stderr.write(`clock: ${SHIFTS_MS[at]}\n`);
});
