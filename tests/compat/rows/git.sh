# A repository made of real files: commit, clone, log, diff, pack, fsck.
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
export GIT_CONFIG_NOSYSTEM=1
git -c init.defaultBranch=main init -q work
cd work
git config gc.auto 0
day=1
python=/usr/lib/$(basename "$(readlink -f /usr/bin/python3)")
for part in json email http urllib unittest; do
  cp -r "$python/$part" .
  find . -name __pycache__ -prune -exec rm -rf {} +
  git add .
  GIT_AUTHOR_DATE="2024-01-0${day}T12:00:00Z" GIT_COMMITTER_DATE="2024-01-0${day}T12:00:00Z" \
    git commit -q -m "add $part"
  day=$((day + 1))
done
git mv json data
sed -i 's/import/IMPORT/' data/*.py
GIT_AUTHOR_DATE=2024-02-01T12:00:00Z GIT_COMMITTER_DATE=2024-02-01T12:00:00Z git commit -qam 'rename json'
git log --stat -M
git diff HEAD~3 HEAD | md5sum
git blame email/message.py | md5sum
git clone -q --no-local . ../clone 2>/dev/null
cd ../clone
git fsck --full --strict
git rev-parse HEAD
git -c pack.threads=2 repack -q -a -d -f --depth=20 --window=20
git count-objects -v | grep in-pack
git grep -c def HEAD | md5sum
git archive HEAD | md5sum
