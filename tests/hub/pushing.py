"""A repo, figures to push, and what a model on a Hub recommends where the package cannot be imported."""

import json
import textwrap

from e4srec_hf.evaluation.metrics import metrics_with_intervals
from e4srec_hf.evaluation.reports import RankingReport

REPO = "org/e4srec-beauty"
REPORTS = {"full": {"E4SRec": RankingReport(metrics_with_intervals([1.0, 3.0]), [1.0, 3.0], 2, 0, True, "all items")}}
#: Loads by id, and prints the module of the class and the ten best items of a batch.
RECOMMEND = textwrap.dedent(
    """
    import json, sys
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    repo, revision, arguments = sys.argv[1], sys.argv[2] or None, json.loads(sys.argv[3])
    arguments |= {"revision": revision}
    AutoConfig.from_pretrained(repo, **arguments)
    model = AutoModel.from_pretrained(repo, **arguments)
    items = AutoTokenizer.from_pretrained(repo, **arguments)
    history = items(["item 3", "item 7"], is_split_into_words=True, return_tensors="pt")
    best = model.recommend(**history, top_k=10)
    print(json.dumps([type(model).__module__, items.convert_ids_to_tokens(best.item_ids[0].tolist()),
                      best.scores[0].tolist()]))
    """
)


def recommend(hub, repo=REPO, revision="", package=False, **environment):
    arguments = {} if package else {"trust_remote_code": True}
    script = ("import e4srec_hf\n" if package else "") + RECOMMEND
    done = hub.run_python(script, repo, revision, json.dumps(arguments), package=package, **environment)
    return json.loads(done.stdout.splitlines()[-1])


def expected(model, items):
    history = items(["item 3", "item 7"], is_split_into_words=True, return_tensors="pt")
    best = model.recommend(**history, top_k=10)
    return [items.convert_ids_to_tokens(best.item_ids[0].tolist()), best.scores[0].tolist()]
