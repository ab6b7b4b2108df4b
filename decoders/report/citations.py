"""BibTeX of the tools and methods that a study used."""

from __future__ import annotations

from collections.abc import Sequence

ENTRIES: dict[str, str] = {
    "numpy": """@article{harris2020numpy,
  author = {Harris, Charles R. and Millman, K. Jarrod and van der Walt, St{\\'e}fan J. and others},
  title = {Array programming with {NumPy}}, journal = {Nature}, year = {2020}, volume = {585}, pages = {357--362},
  doi = {10.1038/s41586-020-2649-2}
}""",
    "scipy": """@article{virtanen2020scipy,
  author = {Virtanen, Pauli and Gommers, Ralf and Oliphant, Travis E. and others},
  title = {{SciPy} 1.0: fundamental algorithms for scientific computing in {Python}}, journal = {Nature Methods},
  year = {2020}, volume = {17}, pages = {261--272}, doi = {10.1038/s41592-019-0686-2}
}""",
    "scikit-learn": """@article{pedregosa2011scikit,
  author = {Pedregosa, Fabian and Varoquaux, Ga{\\"e}l and Gramfort, Alexandre and others},
  title = {Scikit-learn: Machine Learning in {Python}}, journal = {Journal of Machine Learning Research},
  year = {2011}, volume = {12}, pages = {2825--2830}
}""",
    "torch": """@inproceedings{paszke2019pytorch,
  author = {Paszke, Adam and Gross, Sam and Massa, Francisco and others},
  title = {{PyTorch}: An Imperative Style, High-Performance Deep Learning Library},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2019}, volume = {32}
}""",
    "nilearn": """@article{abraham2014nilearn,
  author = {Abraham, Alexandre and Pedregosa, Fabian and Eickenberg, Michael and others},
  title = {Machine learning for neuroimaging with scikit-learn}, journal = {Frontiers in Neuroinformatics},
  year = {2014}, volume = {8}, pages = {14}, doi = {10.3389/fninf.2014.00014}
}""",
    "nibabel": """@software{brett_nibabel,
  author = {Brett, Matthew and Markiewicz, Christopher J. and Hanke, Michael and others},
  title = {{NiBabel}}, doi = {10.5281/zenodo.591597}
}""",
    "snakemake": """@article{molder2021snakemake,
  author = {M{\\"o}lder, Felix and Jablonski, Kim Philipp and Letcher, Brice and others},
  title = {Sustainable data analysis with {Snakemake}}, journal = {F1000Research}, year = {2021}, volume = {10},
  pages = {33},
  doi = {10.12688/f1000research.29032.2}
}""",
    "bids": """@article{gorgolewski2016bids,
  author = {Gorgolewski, Krzysztof J. and Auer, Tibor and Calhoun, Vince D. and others},
  title = {The brain imaging data structure, a format for organizing and describing outputs of neuroimaging
  experiments},
  journal = {Scientific Data}, year = {2016}, volume = {3}, pages = {160044}, doi = {10.1038/sdata.2016.44}
}""",
    "hyperalignment": """@article{haxby2011hyperalignment,
  author = {Haxby, James V. and Guntupalli, J. Swaroop and Connolly, Andrew C. and others},
  title = {A common, high-dimensional model of the representational space in human ventral temporal cortex},
  journal = {Neuron}, year = {2011}, volume = {72}, number = {2}, pages = {404--416},
  doi = {10.1016/j.neuron.2011.08.026}
}""",
    "editing": """@inproceedings{wu2024editing,
  author = {Wu, Muling and Liu, Wenhao and Wang, Xiaohua and others},
  title = {Advancing Parameter Efficiency in Fine-tuning via Representation Editing},
  booktitle = {Proceedings of the 62nd Annual Meeting of the Association for Computational Linguistics},
  year = {2024}, pages = {13445--13464}
}""",
    "reversal": """@article{ganin2016reversal,
  author = {Ganin, Yaroslav and Ustinova, Evgeniya and Ajakan, Hana and others},
  title = {Domain-Adversarial Training of Neural Networks}, journal = {Journal of Machine Learning Research},
  year = {2016}, volume = {17}, number = {59}, pages = {1--35}
}""",
    "rsa": """@article{kriegeskorte2008rsa,
  author = {Kriegeskorte, Nikolaus and Mur, Marieke and Bandettini, Peter},
  title = {Representational similarity analysis -- connecting the branches of systems neuroscience},
  journal = {Frontiers in Systems Neuroscience}, year = {2008}, volume = {2}, pages = {4}, doi =
  {10.3389/neuro.06.004.2008}
}""",
    "ceiling": """@article{nili2014rsatoolbox,
  author = {Nili, Hamed and Wingfield, Cai and Walther, Alexander and others},
  title = {A Toolbox for Representational Similarity Analysis}, journal = {PLoS Computational Biology},
  year = {2014}, volume = {10}, number = {4}, pages = {e1003553}, doi = {10.1371/journal.pcbi.1003553}
}""",
    "inference": """@article{schutt2023inference,
  author = {Sch{\\"u}tt, Heiko H. and Kipnis, Alexander D. and Diedrichsen, J{\\"o}rn and Kriegeskorte, Nikolaus},
  title = {Statistical inference on representational geometries}, journal = {eLife}, year = {2023}, volume = {12},
  pages = {e82566}, doi = {10.7554/eLife.82566}
}""",
    "feedback_alignment": """@article{lillicrap2016feedback,
  author = {Lillicrap, Timothy P. and Cownden, Daniel and Tweed, Douglas B. and Akerman, Colin J.},
  title = {Random synaptic feedback weights support error backpropagation for deep learning},
  journal = {Nature Communications}, year = {2016}, volume = {7}, pages = {13276}, doi = {10.1038/ncomms13276}
}""",
    "direct_feedback_alignment": """@inproceedings{nokland2016dfa,
  author = {N{\\o}kland, Arild}, title = {Direct Feedback Alignment Provides Learning in Deep Neural Networks},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2016}, volume = {29}
}""",
    "backprop": """@article{rumelhart1986backprop,
  author = {Rumelhart, David E. and Hinton, Geoffrey E. and Williams, Ronald J.},
  title = {Learning representations by back-propagating errors}, journal = {Nature}, year = {1986}, volume = {323},
  pages = {533--536}, doi = {10.1038/323533a0}
}""",
    "lss": """@article{mumford2012lss,
  author = {Mumford, Jeanette A. and Turner, Benjamin O. and Ashby, F. Gregory and Poldrack, Russell A.},
  title = {Deconvolving {BOLD} activation in event-related designs for multivoxel pattern classification analyses},
  journal = {NeuroImage}, year = {2012}, volume = {59}, number = {3}, pages = {2636--2643}, doi =
  {10.1016/j.neuroimage.2011.08.076}
}""",
    "fd": """@article{power2012motion,
  author = {Power, Jonathan D. and Barnes, Kelly A. and Snyder, Abraham Z. and Schlaggar, Bradley L. and
  Petersen, Steven E.},
  title = {Spurious but systematic correlations in functional connectivity {MRI} networks arise from subject motion},
  journal = {NeuroImage}, year = {2012}, volume = {59}, number = {3}, pages = {2142--2154}, doi =
  {10.1016/j.neuroimage.2011.10.018}
}""",
    "fdr": """@article{benjamini1995fdr,
  author = {Benjamini, Yoav and Hochberg, Yosef},
  title = {Controlling the false discovery rate: a practical and powerful approach to multiple testing},
  journal = {Journal of the Royal Statistical Society: Series B}, year = {1995}, volume = {57}, number = {1},
  pages = {289--300}
}""",
    "shrinkage": """@article{ledoit2004shrinkage,
  author = {Ledoit, Olivier and Wolf, Michael},
  title = {A well-conditioned estimator for large-dimensional covariance matrices},
  journal = {Journal of Multivariate Analysis}, year = {2004}, volume = {88}, number = {2}, pages = {365--411},
  doi = {10.1016/S0047-259X(03)00096-4}
}""",
    "infonce": """@misc{oord2018cpc,
  author = {van den Oord, Aaron and Li, Yazhe and Vinyals, Oriol},
  title = {Representation Learning with Contrastive Predictive Coding}, year = {2018}, eprint = {1807.03748},
  archivePrefix = {arXiv}
}""",
    "bottleneck": """@misc{alemi2017vib,
  author = {Alemi, Alexander A. and Fischer, Ian and Dillon, Joshua V. and Murphy, Kevin},
  title = {Deep Variational Information Bottleneck}, year = {2017}, eprint = {1612.00410}, archivePrefix = {arXiv}
}""",
    "tang2023": """@article{tang2023decoding,
  author = {Tang, Jerry and LeBel, Amanda and Jain, Shailee and Huth, Alexander G.},
  title = {Semantic reconstruction of continuous language from non-invasive brain recordings},
  journal = {Nature Neuroscience}, year = {2023}, volume = {26}, pages = {858--866},
  doi = {10.1038/s41593-023-01304-9}
}""",
    "mne": """@article{gramfort2013mne,
  author = {Gramfort, Alexandre and Luessi, Martin and Larson, Eric and Engemann, Denis A. and others},
  title = {{MEG} and {EEG} data analysis with {MNE-Python}}, journal = {Frontiers in Neuroscience}, year = {2013},
  volume = {7}, pages = {267}, doi = {10.3389/fnins.2013.00267}
}""",
    "mne_bids": """@article{appelhoff2019mnebids,
  author = {Appelhoff, Stefan and Sanderson, Matthew and Brooks, Teon L. and van Vliet, Marijn and others},
  title = {{MNE-BIDS}: Organizing electrophysiological data into the {BIDS} format and facilitating their analysis},
  journal = {Journal of Open Source Software}, year = {2019}, volume = {4}, number = {44}, pages = {1896},
  doi = {10.21105/joss.01896}
}""",
    "meg_bids": """@article{niso2018megbids,
  author = {Niso, Guiomar and Gorgolewski, Krzysztof J. and Bock, Elizabeth and others},
  title = {{MEG-BIDS}, the brain imaging data structure extended to magnetoencephalography},
  journal = {Scientific Data}, year = {2018}, volume = {5}, pages = {180110}, doi = {10.1038/sdata.2018.110}
}""",
    "sss": """@article{taulu2005sss,
  author = {Taulu, Samu and Kajola, Matti},
  title = {Presentation of electromagnetic multichannel data: the signal space separation method},
  journal = {Journal of Applied Physics}, year = {2005}, volume = {97}, number = {12}, pages = {124905},
  doi = {10.1063/1.1935742}
}""",
    "tsss": """@article{taulu2006tsss,
  author = {Taulu, Samu and Simola, Juha},
  title = {Spatiotemporal signal space separation method for rejecting nearby interference in {MEG} measurements},
  journal = {Physics in Medicine and Biology}, year = {2006}, volume = {51}, number = {7}, pages = {1759--1768},
  doi = {10.1088/0031-9155/51/7/008}
}""",
    "crossnobis": """@article{walther2016crossnobis,
  author = {Walther, Alexander and Nili, Hamed and Ejaz, Naveed and Alink, Arjen and Kriegeskorte, Nikolaus and
  Diedrichsen, J{\\"o}rn},
  title = {Reliability of dissimilarity measures for multi-voxel pattern analysis}, journal = {NeuroImage},
  year = {2016}, volume = {137}, pages = {188--200}, doi = {10.1016/j.neuroimage.2015.12.012}
}""",
    "clusters": """@article{maris2007clusters,
  author = {Maris, Eric and Oostenveld, Robert},
  title = {Nonparametric statistical testing of {EEG}- and {MEG}-data}, journal = {Journal of Neuroscience Methods},
  year = {2007}, volume = {164}, number = {1}, pages = {177--190}, doi = {10.1016/j.jneumeth.2007.03.024}
}""",
    "tfce": """@article{smith2009tfce,
  author = {Smith, Stephen M. and Nichols, Thomas E.},
  title = {Threshold-free cluster enhancement: addressing problems of smoothing, threshold dependence and localisation
  in cluster inference},
  journal = {NeuroImage}, year = {2009}, volume = {44}, number = {1}, pages = {83--98},
  doi = {10.1016/j.neuroimage.2008.03.061}
}""",
    "generalisation": """@article{king2014generalization,
  author = {King, Jean-R{\\'e}mi and Dehaene, Stanislas},
  title = {Characterizing the dynamics of mental representations: the temporal generalization method},
  journal = {Trends in Cognitive Sciences}, year = {2014}, volume = {18}, number = {4}, pages = {203--210},
  doi = {10.1016/j.tics.2014.01.002}
}""",
    "fusion": """@article{cichy2014fusion,
  author = {Cichy, Radoslaw Martin and Pantazis, Dimitrios and Oliva, Aude},
  title = {Resolving human object recognition in space and time}, journal = {Nature Neuroscience}, year = {2014},
  volume = {17}, number = {3}, pages = {455--462}, doi = {10.1038/nn.3635}
}""",
    "commonality": """@article{hebart2018commonality,
  author = {Hebart, Martin N. and Bankson, Brett B. and Harel, Assaf and Baker, Chris I. and Cichy, Radoslaw M.},
  title = {The representational dynamics of task and object processing in humans}, journal = {eLife}, year = {2018},
  volume = {7}, pages = {e32816}, doi = {10.7554/eLife.32816}
}""",
    "defossez2023": """@article{defossez2023decoding,
  author = {D{\\'e}fossez, Alexandre and Caucheteux, Charlotte and Rapin, J{\\'e}r{\\'e}my and Kabeli, Ori and
  King, Jean-R{\\'e}mi},
  title = {Decoding speech perception from non-invasive brain recordings}, journal = {Nature Machine Intelligence},
  year = {2023}, volume = {5}, number = {10}, pages = {1097--1107}, doi = {10.1038/s42256-023-00714-5}
}""",
}


def bibtex(keys: Sequence[str]) -> str:
    """Return the entries of the given keys, each once, in the order of this file."""
    wanted = set(keys)
    return "\n\n".join(entry for key, entry in ENTRIES.items() if key in wanted) + "\n"
