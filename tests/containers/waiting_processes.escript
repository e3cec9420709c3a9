#!/usr/bin/env escript
%% Processes that have each made garbage and then wait: as connections do that nobody uses, they keep it for ever.
-mode(compile).

main(_) ->
  Waits = fun() -> 700 = length([lists:seq(1, 20) || _ <- lists:seq(1, 700)]), receive stop -> ok end end,
  Pids = [begin Pid = spawn(Waits), timer:sleep(5), Pid end || _ <- lists:seq(1, 500)],
  true = lists:all(fun is_process_alive/1, Pids),
  io:format("done~n").
