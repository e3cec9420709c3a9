# git's porcelain over a repository of 20,000 files and 60 commits: branches, merges, rebase, gc, bundle, worktree.
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
export GIT_CONFIG_NOSYSTEM=1
git -c init.defaultBranch=main init -q work
cd work
git config gc.auto 0
git config pack.threads 2
awk 'BEGIN {
  for (d = 0; d < 200; d++) {
    system("mkdir -p d" d)
    for (f = 0; f < 100; f++) {
      name = "d" d "/f" f
      for (l = 0; l < 20; l++) print "line " l " of " name " " d * 7919 + f * 104729 + l >name
      close(name)
    }
  }
}'
day=0
commit() {
  day=$((day + 1))
  GIT_AUTHOR_DATE="$((1700000000 + day * 1000)) +0000" GIT_COMMITTER_DATE="$((1700000000 + day * 1000)) +0000" "$@"
}
git add .
commit git commit -q -m base
for i in $(seq 30); do
  for f in 1 2 3; do sed -i "s/^line $((i % 20)) /line $((i % 20)) changed $i /" "d$((i * 3 + f))/f$i"; done
  commit git commit -q -a -m "change $i"
done
git checkout -q -b side HEAD~20
for i in $(seq 20); do
  echo "side $i" >"d199/side$i"
  git add d199
  commit git commit -q -m "side $i"
done
commit git merge -q -m merge main
git rev-parse HEAD
git checkout -q -b linear HEAD^1
commit git rebase -q main >/dev/null 2>&1
git log --oneline --stat | md5sum
git checkout -q side
git -c pack.threads=2 gc -q --aggressive --prune=now
git count-objects -v | grep -E '^(count|in-pack)'
git fsck --full --strict
git bundle create -q ../all.bundle --all
git clone -q -b side ../all.bundle ../clone 2>/dev/null
cd ../clone
git rev-parse HEAD
git worktree add -q ../tree HEAD~5
git -C ../tree status --short | wc -l
git log -S'changed 7' --format=%s
git blame d10/f3 | md5sum
git grep -c 'changed' | md5sum
git archive HEAD | md5sum
git status --short | wc -l
