"""A small profile for the tests of the judge."""

from grm_service.profiles.profile import Profile, PromptTemplate

PROFILE = Profile(
    name="test",
    description="For tests.",
    prompt=PromptTemplate(
        judge="Judge {{n}}.\n{{principles}}#### Context ####\n{{conversation}}\n{{reference}}{{responses}}\n"
        "Scores: \\boxed{{{boxed}}}",
        turn="{{role}}: {{content}}",
        response="[The Begin of Response {{i}}]\n{{content}}\n[The End of Response {{i}}]",
        reference="#### Reference ####\n{{content}}\n",
        fixed="Only:\n{{items}}\n",
        constitution="Above:\n{{items}}\n",
        query="Write criteria.\n{{constitution}}{{conversation}}",
    ),
)
