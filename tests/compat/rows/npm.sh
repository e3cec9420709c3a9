# npm: 300 local packages packed, installed, listed, run; two removed again.
export npm_config_cache="$PWD/cache" npm_config_offline=true npm_config_audit=false npm_config_fund=false
export npm_config_update_notifier=false npm_config_loglevel=error
mkdir app
cat >make.js <<'CODE'
const fs = require('fs');
const app = { name: 'app', version: '1.0.0', scripts: { sum: 'node sum.js' }, dependencies: {} };
for (let i = 0; i < 300; i++) {
  fs.mkdirSync(`packages/p${i}`, { recursive: true });
  fs.writeFileSync(`packages/p${i}/package.json`, JSON.stringify({ name: `p${i}`, version: `1.0.${i}` }));
  fs.writeFileSync(`packages/p${i}/index.js`, `module.exports = ${i};`);
  app.dependencies[`p${i}`] = `file:../packages/p${i}`;
}
fs.writeFileSync('app/package.json', JSON.stringify(app));
fs.writeFileSync('app/sum.js', 'let s = 0; for (let i = 0; i < 300; i++) s += require("p" + i); console.log(s);');
CODE
node make.js
cd app
npm install >/dev/null
npm ls --all --parseable | wc -l
node -e 'console.log(Object.keys(require("./package-lock.json").packages).sort().join(" "))' | md5sum
npm run -s sum
npm uninstall p7 p9 >/dev/null
find -L node_modules -type f ! -name .package-lock.json | LC_ALL=C sort | xargs cat | md5sum
npm pack --dry-run 2>/dev/null
