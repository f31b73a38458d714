// `npm start`. The demo runs in this very process: a child would get each Ctrl-C twice, from the terminal and from us.
import { bootstrap } from './bootstrap.mjs';

await bootstrap();
process.argv.splice(2, 0, 'demo', '--serve');
await import('../bin/lanegate.js');
